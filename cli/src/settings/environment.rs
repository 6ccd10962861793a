//! Variables: `OFFSHOOT_` and the table and the key, in capitals, with `_` for what is no letter;
//! `OFFSHOOT_MASTER`, `OFFSHOOT_CREDENTIAL` and `OFFSHOOT_TOKEN` have no table.

use super::error::{self, Error};
use super::{Key, Origin, Place, Setting, Table, keys};
use offshoot_proto::settings as application;
use std::ffi::OsString;

/// All that is set; what is set to nothing is not.
pub(super) fn read(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<Setting>, Error> {
    let ours = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("OFFSHOOT_"))?;
        (!value.is_empty()).then_some((name, value))
    };
    let mut variables: Vec<(String, OsString)> = variables.filter_map(ours).collect();
    variables.sort_unstable();
    let mut settings = Vec::new();
    for (name, value) in variables {
        let keys: Vec<Key> =
            keys::all().filter(|key| key.variable().as_ref() == Some(&name)).collect();
        if keys.is_empty() && is_meant_for_us(&name) {
            return Err(unknown(name));
        }
        for key in keys {
            settings.push(setting(key, &name, &value)?);
        }
    }
    Ok(settings)
}

fn setting(key: Key, variable: &str, value: &OsString) -> Result<Setting, Error> {
    let origin = Origin::Environment(variable.to_owned());
    let place = Place { table: key.table, name: key.name.to_owned(), origin };
    let wrong = |value: &str| Error::Value {
        what: error::with_value(&place, value),
        expected: key.kind.to_string(),
    };
    let text = value.to_str().ok_or_else(|| wrong(&value.to_string_lossy()))?.to_owned();
    if key.table == Table::Conf {
        let set = application::Settings::default().set(&format!("{}={text}", key.name));
        set.map_err(|error| error::misfit(&place, &text, error))?;
    } else if !key.kind.fits(&text) {
        return Err(wrong(&text));
    }
    Ok(Setting { key, text, place })
}

/// Whether it begins like a variable of a table. Others are left alone, and so is what Kubernetes
/// sets in every container for a service called `offshoot-master`.
fn is_meant_for_us(name: &str) -> bool {
    let rest = Table::ALL.iter().find_map(|table| {
        let prefix = format!("OFFSHOOT_{}_", table.name().to_ascii_uppercase());
        name.strip_prefix(&prefix)
    });
    let of_a_service =
        |rest: &str| rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
    rest.is_some_and(|rest| !of_a_service(rest))
}

fn unknown(name: String) -> Error {
    let irregular = keys::all().find(|key| key.regular_variable() == name);
    let advice = match irregular.and_then(Key::variable) {
        Some(variable) => format!("it is {variable}"),
        None => {
            let variables: Vec<String> = keys::all().filter_map(Key::variable).collect();
            let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
            match application::nearest(&name, &variables) {
                Some(near) => format!("did you mean {near}?"),
                None => "docs/settings.md lists them".to_owned(),
            }
        }
    };
    Error::Unknown { place: name, what: "variable", advice }
}
