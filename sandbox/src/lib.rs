//! offshoot-sandbox.
