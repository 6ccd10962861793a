//! Tests of the module cache.
