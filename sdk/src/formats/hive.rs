//! Folders called `key=value`, as Hive, Spark, DuckDB and pyarrow write them: columns whose values
//! are in the path of a file.

use offshoot_proto::abi::InputFile;

/// The folder of rows that have no value.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A column of a path: its name, and its value as text.
pub(crate) type Column = (String, Option<String>);

/// The columns in the folders of a file's path, the outermost first.
pub(crate) fn columns(file: &InputFile) -> Vec<Column> {
    let mut folders = super::files::name(file).split('/');
    folders.next_back();
    let parts = folders.filter_map(|folder| folder.split_once('='));
    let named = parts.filter(|(key, _)| !key.is_empty());
    named
        .map(|(key, value)| {
            let value = (value != NULL).then(|| percent_decoded(value));
            (percent_decoded(key), value)
        })
        .collect()
}

/// `%41` as `A`; what is no such escape, or does not make UTF-8, as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes[at..].strip_prefix(b"%").and_then(|rest| rest.get(..2));
        let byte = escape.and_then(|digits| {
            let digit = |n: usize| char::from(digits[n]).to_digit(16);
            u8::try_from(digit(0)? * 16 + digit(1)?).ok()
        });
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::columns;
    use offshoot_proto::abi::InputFile;

    fn of(path: &str) -> Vec<(String, Option<String>)> {
        columns(&InputFile { path: path.to_owned(), length: 0, modified_nanos: 0 })
    }

    #[test]
    fn folders_are_columns() {
        let text = |text: &str| Some(text.to_owned());
        let path = "/data/year=2024/city=S%C3%A3o%20Paulo%2F1/empty=/x=__HIVE_DEFAULT_PARTITION__";
        let expected = [
            ("year".to_owned(), text("2024")),
            ("city".to_owned(), text("São Paulo/1")),
            ("empty".to_owned(), text("")),
            ("x".to_owned(), None),
        ];
        assert_eq!(of(&format!("{path}/a=b.csv")), expected);
        assert_eq!(of(&format!("s3://bucket{path}/a=b.csv#etag=x=/y=1")), expected);
        assert_eq!(of("/data/=1/plain/a=1"), []);
        assert_eq!(
            of("/a%3Db=100%/p=50%zz/q=%ff/f"),
            [
                ("a=b".to_owned(), text("100%")),
                ("p".to_owned(), text("50%zz")),
                ("q".to_owned(), text("%ff")),
            ]
        );
    }
}
