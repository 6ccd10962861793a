//! offshoot-host.
