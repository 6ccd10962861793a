//! offshoot.
