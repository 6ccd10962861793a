//! The subcommands, one file each.

pub(crate) mod apps;
pub(crate) mod build;
pub(crate) mod drain;
pub(crate) mod explain;
pub(crate) mod hidden;
pub(crate) mod master;
pub(crate) mod new;
pub(crate) mod submit;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod worker;
pub(crate) mod workers;
