//! Tests of guest memory.
