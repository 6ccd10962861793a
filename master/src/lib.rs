//! offshoot-master.
