//! Inputs, listed once by the driver.

use crate::location::Location;
use crate::{RemoteFiles, Store, StoreError};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use object_store::{ListResult, ObjectMeta, ObjectStoreExt};
use offshoot_proto::abi::InputFile;
use offshoot_proto::grants::Access;

/// Files of one listing, as of local ones.
const FILES_MAX: usize = 65_536;

/// Bytes of the paths of one listing, so that it fits a frame of the link with room to spare.
const PATHS_BYTES_MAX: usize = 8 << 20;

/// Directories that are listed at once.
const LISTS_AT_ONCE: usize = 8;

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// The component that stands for prefixes at any depth.
const ANY_DEPTH: &str = "**";

/// Within one component; hidden names are left out by [`is_hidden`].
const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

// === impl RemoteFiles ===

impl RemoteFiles {
    /// The objects that a URL names, sorted, as they are now: like a local listing.
    ///
    /// A prefix stands for the objects right beneath it. Names that begin with `.` or `_` are left
    /// out, beneath a prefix and where a wildcard would match them. Wildcards (of `s3` only) are
    /// `*`, `?` and `[..]`, none of which matches a slash, and the component `**`, which stands for
    /// what is before it and for all prefixes beneath. An HTTP URL names one file.
    ///
    /// # Errors
    /// Not granted; no URL; nothing there; a limit; whatever the store says.
    pub async fn list_inputs(&self, url: &str) -> Result<Vec<InputFile>, StoreError> {
        let location = Location::parse(url)?;
        let store = self.store(&location)?;
        let has_wildcard = location.path.as_ref().contains(WILDCARDS);
        let objects = match &location.place {
            crate::Place::Server(_) => {
                self.check(&location, Access::Read)?;
                one(&store, &location).await?.into_iter().collect()
            }
            crate::Place::Bucket(_) if has_wildcard => self.expand(&store, &location).await?,
            crate::Place::Bucket(_) => {
                self.check(&location, Access::Read)?;
                file_or_directory(&store, &location).await?
            }
        };
        let mut files = Vec::with_capacity(objects.len());
        let mut path_bytes = 0;
        for object in objects {
            let file = input(&location, &object);
            path_bytes += file.path.len();
            files.push(file);
        }
        if path_bytes > PATHS_BYTES_MAX {
            return Err(too_many(&location, "8 MiB of paths"));
        }
        if files.is_empty() {
            return Err(StoreError::NothingFound { url: url.to_owned() });
        }
        files.sort_unstable();
        files.dedup();
        Ok(files)
    }

    /// What a pattern matches, component by component.
    async fn expand(&self, store: &Store, url: &Location) -> Result<Vec<ObjectMeta>, StoreError> {
        let path = url.path.as_ref().to_owned();
        let mut components = path.split('/').peekable();
        let mut places = vec![url.with_path(object_store::path::Path::default())];
        let mut objects = Vec::new();
        while let Some(component) = components.next() {
            if !component.contains(WILDCARDS) {
                places = places.iter().map(|place| place.join(component)).collect();
                continue;
            }
            for place in &places {
                self.check(place, Access::Read)?;
            }
            if component == ANY_DEPTH {
                let rest: Vec<&str> = components.by_ref().collect();
                objects.extend(beneath(store, url, &places, &rest.join("/")).await?);
                check_count(url, objects.len())?;
                return Ok(objects);
            }
            let wildcard = wildcard(url, component)?;
            let matches = |name: &str| {
                let shown = is_hidden(component) || !is_hidden(name);
                shown && wildcard.matches_with(name, MATCH)
            };
            let (mut directories, is_last) = (Vec::new(), components.peek().is_none());
            for listed in list_all(store, &places).await? {
                let beneath = listed.common_prefixes.into_iter();
                directories.extend(beneath.filter(|path| path.filename().is_some_and(&matches)));
                let of_place = listed
                    .objects
                    .into_iter()
                    .filter(|object| !url.is_directory && is_last && named(object, &matches));
                objects.extend(of_place);
                check_count(url, objects.len().max(directories.len()))?;
            }
            places = directories.into_iter().map(|path| url.with_path(path)).collect();
        }
        objects.extend(at_ends(store, url, places).await?);
        check_count(url, objects.len())?;
        Ok(objects)
    }
}

/// What the rest of a pattern matches at any depth beneath places: objects, or those right beneath
/// what matches. One listing for each place, however deep it is.
async fn beneath(
    store: &Store,
    url: &Location,
    places: &[Location],
    rest: &str,
) -> Result<Vec<ObjectMeta>, StoreError> {
    let bad = |error: glob::PatternError| StoreError::BadUrl {
        url: url.to_string(),
        reason: error.msg.to_owned(),
    };
    let pattern = Pattern::new(&["**/", rest].concat().replace("//", "/")).map_err(bad)?;
    let hidden_asked_for = rest.split('/').any(is_hidden);
    let wanted = |path: &str| {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let name = path.rsplit('/').next().unwrap_or(path);
        let shown = hidden_asked_for || !path.split('/').any(is_hidden);
        let is_named = !url.is_directory && pattern.matches_with(path, MATCH);
        let is_inside = !is_hidden(name) && pattern.matches_with(parent, MATCH);
        shown && (rest.is_empty() || is_named || is_inside)
    };
    let mut found = Vec::new();
    for place in places {
        let mut listed = store.objects.list(Some(&place.path));
        while let Some(object) = listed.next().await {
            let failed = |error| StoreError::failed(place.to_string(), "listing it", &error);
            let object = object.map_err(failed)?;
            let path = object.location.as_ref().strip_prefix(place.path.as_ref());
            if path.is_some_and(|path| wanted(path.trim_start_matches('/'))) {
                found.push(object);
            }
            check_count(url, found.len())?;
        }
    }
    Ok(found)
}

/// What is at the ends of a pattern: directories, or where no wildcard was last, anything.
async fn at_ends(
    store: &Store,
    url: &Location,
    mut places: Vec<Location>,
) -> Result<Vec<ObjectMeta>, StoreError> {
    let last = url.path.filename().unwrap_or_default();
    let is_directory = url.is_directory || last.contains(WILDCARDS);
    for place in &mut places {
        place.is_directory = is_directory;
    }
    let reads = places.iter().map(|place| file_or_directory(store, place).boxed());
    let reads: Vec<_> = reads.collect();
    let found: Vec<_> = stream::iter(reads).buffered(LISTS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The object itself, or those beneath it.
async fn file_or_directory(store: &Store, url: &Location) -> Result<Vec<ObjectMeta>, StoreError> {
    let found = match url.is_directory {
        true => Ok(None),
        false => one(store, url).await,
    };
    if let Ok(Some(object)) = found {
        return Ok(vec![object]);
    }
    // An answer to HEAD has no words. What is wrong is asked for again in a request that has.
    let listed = list(store, url).await?;
    let objects = listed.objects.into_iter().filter(|object| named(object, &|n| !is_hidden(n)));
    let objects: Vec<_> = objects.collect();
    check_count(url, objects.len())?;
    match found {
        Err(error) if objects.is_empty() => Err(error),
        _ => Ok(objects),
    }
}

async fn one(store: &Store, url: &Location) -> Result<Option<ObjectMeta>, StoreError> {
    match store.objects.head(&url.path).await {
        Ok(object) => Ok(Some(object)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(StoreError::failed(url.to_string(), "looking at it", &error)),
    }
}

async fn list(store: &Store, url: &Location) -> Result<ListResult, StoreError> {
    let listed = store.objects.list_with_delimiter(Some(&url.path)).await;
    listed.map_err(|error| StoreError::failed(url.to_string(), "listing it", &error))
}

async fn list_all(store: &Store, places: &[Location]) -> Result<Vec<ListResult>, StoreError> {
    let lists = places.iter().map(|place| list(store, place).boxed());
    let lists: Vec<_> = lists.collect();
    stream::iter(lists).buffered(LISTS_AT_ONCE).try_collect().await
}

fn input(listing: &Location, object: &ObjectMeta) -> InputFile {
    let location = match listing.place {
        crate::Place::Bucket(_) => listing.with_path(object.location.clone()),
        crate::Place::Server(_) => listing.clone(),
    };
    InputFile {
        path: location.to_input(object.e_tag.as_deref()),
        length: object.size,
        modified_nanos: modified_nanos(object),
    }
}

/// In whole seconds: a listing knows parts of them, the header of an answer does not.
pub(crate) fn modified_nanos(object: &ObjectMeta) -> i64 {
    object.last_modified.timestamp().saturating_mul(1_000_000_000)
}

fn named(object: &ObjectMeta, matches: &dyn Fn(&str) -> bool) -> bool {
    object.location.filename().is_some_and(matches)
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn check_count(url: &Location, count: usize) -> Result<(), StoreError> {
    if count > FILES_MAX { Err(too_many(url, "65536 objects")) } else { Ok(()) }
}

fn too_many(url: &Location, limit: &'static str) -> StoreError {
    StoreError::TooMany { url: url.to_string(), limit }
}

fn wildcard(url: &Location, component: &str) -> Result<Pattern, StoreError> {
    let bad = |reason: &str| StoreError::BadUrl { url: url.to_string(), reason: reason.to_owned() };
    if component.contains("**") {
        return Err(bad("** stands for prefixes, between slashes"));
    }
    Pattern::new(component).map_err(|error| bad(error.msg))
}
