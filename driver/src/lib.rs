//! The driver: runs a job's `main`, cuts its jobs into stages and its stages into tasks.
#![forbid(unsafe_code)]

pub mod dag;
pub mod scheduler;
pub mod tasks;
