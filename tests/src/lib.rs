//! offshoot-tests.
