//! Tests of module checks.
