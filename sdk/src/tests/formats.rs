//! What is written is read again, however it is cut; folders are columns.

use super::*;
use crate::{Compression, CsvOptions, ParquetOptions, ParquetRead};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    small: i8,
    name: String,
    ratio: f64,
    maybe: Option<i32>,
    note: Option<String>,
    yes: bool,
}

crate::record!(Row);

const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Lz4];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let ratio = prop_oneof![any::<f64>().prop_filter("finite", |f| f.is_finite()), Just(0.5)];
    // An empty text and none are the same to CSV.
    let note = prop::option::of("[a-z\"',;\n\r é]{1,8}");
    let row =
        (any::<u64>(), any::<i8>(), ".{0,12}", ratio, any::<Option<i32>>(), note, any::<bool>());
    let row = row.prop_map(|(id, small, name, ratio, maybe, note, yes)| Row {
        id,
        small,
        name,
        ratio,
        maybe,
        note,
        yes,
    });
    prop::collection::vec(row, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_come_back(
        rows in rows(), partitions in 1u32..6, codec in 0usize..4, group in 1usize..40,
    ) {
        run(|context| {
            let dataset = context.parallelize(rows.clone(), partitions);
            let compression = COMPRESSIONS[codec];
            let csv = CsvOptions::new().compression(compression);
            dataset.save_as_csv("/csv", csv.clone()).unwrap();
            let found = context.csv_file::<Row>("/csv", csv).unwrap().collect().unwrap();
            prop_assert_eq!(&found, &rows);
            dataset.save_as_json_lines("/json", compression).unwrap();
            let found = context.json_lines::<Row>("/json").unwrap().collect().unwrap();
            prop_assert_eq!(&found, &rows);
            let options = ParquetOptions::new().rows_in_group(group);
            let options = match codec {
                0 => options,
                1 => options.gzip(),
                2 => options.lz4(),
                _ => options.uncompressed(),
            };
            dataset.save_as_parquet("/parquet", options).unwrap();
            let read = ParquetRead::new();
            let found = context.parquet_file::<Row>("/parquet", read).unwrap().collect().unwrap();
            prop_assert_eq!(&found, &rows);
            Ok(())
        })?;
    }

    #[test]
    fn lines_come_back(
        lines in prop::collection::vec("[a-z]{0,20}", 0..80), partitions in 1u32..5,
        codec in 0usize..4, cut in 1u32..7,
    ) {
        run(|context| {
            let compression = COMPRESSIONS[codec];
            let dataset = context.parallelize(lines.clone(), partitions);
            dataset.save_as_compressed_text_file("/out", compression).unwrap();
            let text = context.text_file_with_partitions("/out", cut).unwrap();
            prop_assert_eq!(&text.collect().unwrap(), &lines);
            let sorted = context.byte_lines_with_partitions("/out", cut).unwrap();
            let sorted = sorted.sort_with_partitions(3).records().collect().unwrap();
            let mut expected: Vec<_> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            expected.sort();
            prop_assert_eq!(sorted, expected);
            Ok(())
        })?;
    }

    #[test]
    fn csv_cut_anywhere(names in prop::collection::vec("[a-z,\"]{0,9}", 0..60), end: bool) {
        run(|context| {
            let lines: Vec<String> = names
                .iter()
                .enumerate()
                .map(|(n, name)| format!("\"{}\",{n}", name.replace('"', "\"\"")))
                .collect();
            let text = format!("name,n\r\n{}{}", lines.join("\r\n"), if end { "\r\n" } else { "" });
            write_file("/in/a.csv", text.as_bytes());
            #[derive(Deserialize)]
            struct Named { n: usize, name: String }
            let options = CsvOptions::new().one_line_a_row();
            let found = context.csv_file::<Named>("/in/a.csv", options).unwrap();
            let found = found.map(|row| (row.n, row.name)).collect().unwrap();
            let expected: Vec<_> = names.iter().cloned().enumerate().collect();
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}

#[test]
fn parts_are_called_by_their_format() {
    run(|context| {
        let numbers = context.parallelize(["a".to_owned(), "b".to_owned()], 2);
        numbers.save_as_compressed_text_file("/out", Compression::Gzip).unwrap();
        let lines = numbers.map(|name| format!("{name}x"));
        lines.save_as_json_lines("/json", Compression::Zstd).unwrap();
        let names: Vec<String> = fake_host::with(|host| host.files.keys().cloned().collect());
        assert_eq!(
            names,
            [
                "/json/part-00000.jsonl.zst",
                "/json/part-00001.jsonl.zst",
                "/out/part-00000.gz",
                "/out/part-00001.gz",
            ]
        );
    });
}

#[test]
fn folders_are_columns_of_every_format() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Sale {
        year: u16,
        city: Option<String>,
        sum: u32,
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct Sum {
        sum: u32,
    }
    let folders = ["year=2023/city=S%C3%A3o%20Paulo", "year=2024/city=__HIVE_DEFAULT_PARTITION__"];
    let expected = ["2023 Some(\"São Paulo\") 1", "2024 None 2"];
    run(|context| {
        for (folder, sum) in folders.into_iter().zip(1..) {
            let row = context.parallelize([Sum { sum }], 1);
            row.save_as_csv(&format!("/csv/{folder}"), CsvOptions::new()).unwrap();
            row.save_as_json_lines(&format!("/json/{folder}"), Compression::None).unwrap();
            row.save_as_parquet(&format!("/parquet/{folder}"), ParquetOptions::new()).unwrap();
        }
        let shown = |sales: Dataset<Sale>| {
            sales
                .map(|Sale { year, city, sum }| format!("{year} {city:?} {sum}"))
                .collect()
                .unwrap()
        };
        assert_eq!(shown(context.csv_file("/csv/", CsvOptions::new()).unwrap()), expected);
        assert_eq!(shown(context.json_lines("/json/").unwrap()), expected);
        let all = ParquetRead::new();
        assert_eq!(shown(context.parquet_file("/parquet/", all).unwrap()), expected);
        let new = ParquetRead::new().only("year", 2024..);
        assert_eq!(shown(context.parquet_file("/parquet/", new).unwrap()), expected[1..]);
        let none = ParquetRead::new().only("city", "X".."Z");
        assert_eq!(shown(context.parquet_file("/parquet/", none).unwrap()), [""; 0]);
    });
}

#[test]
fn a_schema_says_what_types_do_not() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        day: String,
        at: Option<i64>,
        price: String,
        key: Vec<u8>,
        wide: String,
    }
    crate::record!(Row);
    let schema = "message sale { required int32 day (DATE); optional int64 at \
         (TIMESTAMP(MILLIS, true)); required int64 price (DECIMAL(12, 2)); required \
         fixed_len_byte_array(2) key; required fixed_len_byte_array(16) wide (DECIMAL(38, 3)); }";
    let row = |day: &str, at, price: &str, wide: &str| Row {
        day: day.to_owned(),
        at,
        price: price.to_owned(),
        key: b"ab".to_vec(),
        wide: wide.to_owned(),
    };
    run(|context| {
        let rows = vec![
            row("2024-02-29", Some(1000), "-12.30", "-1.000"),
            row("1969-12-31", None, "0.00", "99999999999999999999999999999999999.999"),
        ];
        let options = ParquetOptions::new().schema(schema);
        let dataset = context.parallelize(rows.clone(), 1);
        dataset.save_as_parquet("/out", options.clone()).unwrap();
        let found = context.parquet_file::<Row>("/out", ParquetRead::new()).unwrap();
        assert_eq!(found.collect().unwrap(), rows);
        for (bad, column) in [
            (row("2024-02-30", None, "0", "0"), "day"),
            (row("2024-02-29", Some(1), "0", "0"), "at"),
            (row("2024-02-29", None, "0.001", "0"), "price"),
            (Row { key: vec![1], ..row("2024-02-29", None, "0", "0") }, "key"),
        ] {
            let saved = context.parallelize([bad], 1).save_as_parquet("/bad", options.clone());
            let said = saved.unwrap_err().to_string();
            assert!(said.contains(&format!("row 0 of the partition: column {column}: ")), "{said}");
        }
    });
}

#[test]
fn types_without_columns_are_refused_in_main() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Listed {
        list: Vec<i32>,
    }
    run(|context| {
        let listed = context.parallelize([Listed { list: vec![] }], 1);
        let said = listed.save_as_parquet("/x", ParquetOptions::new()).unwrap_err().to_string();
        assert!(said.contains("field list is a list, which no column can have"), "{said}");
        let said = context.range(0..1, 1).save_as_parquet("/x", ParquetOptions::new());
        assert!(said.unwrap_err().to_string().contains("rows are structs with fields"));
        let schema = ParquetOptions::new().schema("message");
        assert!(listed.save_as_parquet("/x", schema).is_err());
    });
}

#[test]
fn whole_files_and_records_of_a_length() {
    run(|context| {
        write_file("/in/a", b"abcd");
        write_file("/in/b", b"");
        write_file("/in/c", b"efghij");
        let whole = context.whole_files("/in/").unwrap();
        let whole = whole.map(|file| (file.path, file.bytes)).collect().unwrap();
        let expected = [("/in/a", &b"abcd"[..]), ("/in/b", b""), ("/in/c", b"efghij")];
        assert_eq!(whole, expected.map(|(path, bytes)| (path.to_owned(), bytes.to_vec())));
        let pairs = context.binary_records("/in/", 2).unwrap();
        assert_eq!(pairs.collect().unwrap(), [b"ab", b"cd", b"ef", b"gh", b"ij"]);
        let said = context.binary_records("/in/", 4).unwrap().count().unwrap_err().to_string();
        assert!(said.contains("/in/c: the last record, at byte 4, has 2 bytes"), "{said}");
        assert!(context.binary_records("/in/", 0).is_err());
    });
}
