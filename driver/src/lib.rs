//! offshoot-driver.
