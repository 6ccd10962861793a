//! offshoot-net.
