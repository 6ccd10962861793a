//! `--allow-read` and `--allow-write` as grants.

use crate::failure::Failure;
use offshoot_proto::grants::{Access, Grants, PathGrant, is_remote};
use std::path::{Path, PathBuf};

/// The grants that the flags name. A path to read must be there; one to write, or its parent.
pub(crate) fn grants(read: &[PathBuf], write: &[PathBuf]) -> Result<Grants, Failure> {
    Ok(Grants {
        read: read.iter().map(|path| grant(path, Access::Read)).collect::<Result<_, _>>()?,
        write: write.iter().map(|path| grant(path, Access::Write)).collect::<Result<_, _>>()?,
        environment: Vec::new(),
    })
}

/// Whether any of them is in a store.
pub(crate) fn any_remote(grants: &Grants) -> bool {
    grants.read.iter().chain(&grants.write).any(|grant| is_remote(&grant.guest))
}

fn grant(path: &Path, access: Access) -> Result<PathGrant, Failure> {
    let flag = access.flag();
    if let Some(url) = path.to_str().filter(|path| is_remote(path)) {
        offshoot_store::check_grant(url, access)
            .map_err(|error| Failure::usage(format!("{flag}: {error}")))?;
        return Ok(PathGrant { guest: url.to_owned(), host: url.to_owned() });
    }
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::usage(format!("{flag} {}: {reason}", path.display()))
    };
    let host = match (path.canonicalize(), access) {
        (Ok(host), _) => host,
        (Err(error), Access::Read) => return Err(failed(&error)),
        (Err(_), Access::Write) => {
            let absolute = std::path::absolute(path).map_err(|error| failed(&error))?;
            let name = absolute.file_name().ok_or_else(|| failed(&"it has no name"))?;
            let parent = absolute.parent().unwrap_or(Path::new("/"));
            parent.canonicalize().map_err(|error| failed(&error))?.join(name)
        }
    };
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| failed(&"the path is not UTF-8"))
    };
    Ok(PathGrant { guest: text(path)?, host: text(&host)? })
}
