//! The encoding is postcard's, and hostile bytes are errors.
#![allow(clippy::unwrap_used)]

use super::{Record, Serde, decode_whole};
use core::fmt::Debug;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Named { name: String, sides: Vec<i16> },
}
crate::record!(Shape);

fn check<T: Record + Serialize + PartialEq + Debug>(value: &T) {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    assert_eq!(bytes, postcard::to_allocvec(value).unwrap(), "{value:?}");
    assert_eq!(decode_whole::<T>(&bytes).as_ref(), Ok(value));

    let (mut skipped, longer) = (&bytes[..], [&bytes[..], &[7]].concat());
    T::skip(&mut skipped).unwrap();
    assert!(skipped.is_empty(), "skip leaves {skipped:?} of {value:?}");
    assert!(decode_whole::<T>(&longer).is_err(), "left-over bytes of {value:?}");
    for end in 0..bytes.len() {
        assert!(decode_whole::<T>(&bytes[..end]).is_err(), "{end} bytes of {value:?}");
    }
}

fn hostile<T: Record>(bytes: &[u8]) {
    let mut input = bytes;
    if T::decode(&mut input).is_ok() {
        assert!(bytes.ends_with(input));
    }
    let mut input = bytes;
    let _ = T::skip(&mut input);
}

#[test]
fn edges_of_numbers() {
    for value in [0, 1, 63, 64, 127, 128, 16383, 16384, u64::MAX / 2, u64::MAX] {
        check(&value);
        check(&(value as u32));
        check(&(value as u16));
        check(&u128::from(value));
        check(&value.cast_signed());
        check(&(value as i32));
        check(&(value as i16));
        check(&(value as i8));
        check(&i128::from(value.cast_signed()));
        check(&(value as usize));
    }
    assert!(decode_whole::<u16>(&[0xff, 0xff, 0x04]).is_err(), "above 65535");
    assert_eq!(decode_whole::<u16>(&[0xff, 0xff, 0x03]), Ok(u16::MAX));
    assert!(decode_whole::<u32>(&[0x80; 9]).is_err(), "never ends");
}

#[test]
fn compound_types() {
    check(&(1u8, -2i8, true, 'ß', 1.5f32, f64::MIN));
    check(&(Some("text".to_owned()), None::<u32>, Some(Some(3u64))));
    check(&vec![(b"bytes".to_vec(), vec![1u64, 300]), (vec![], vec![])]);
    check(&[Ok::<u8, String>(3), Err("no".to_owned())]);
    check(&Box::new([1.0f64, -0.0]));
    check(&BTreeMap::from([("a".to_owned(), 1i32), ("b".to_owned(), -1)]));
    check(&Shape::Point);
    check(&Shape::Named { name: "square".to_owned(), sides: vec![1, -1, 1, -1] });
    let mut bytes = Vec::new();
    Serde(Shape::Point).encode(&mut bytes);
    assert_eq!(bytes, [0]);
    assert_eq!(decode_whole::<Vec<()>>(&[3]), Ok(vec![(), (), ()]));
}

#[test]
fn a_length_is_not_believed() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
    assert!(decode_whole::<Vec<u8>>(&huge).is_err());
    assert!(decode_whole::<Vec<String>>(&huge).is_err());
    assert!(decode_whole::<String>(&huge).is_err());
    assert!(decode_whole::<bool>(&[2]).is_err());
    assert!(decode_whole::<char>(&[2, b'a', b'b']).is_err());
    assert!(decode_whole::<String>(&[1, 0xff]).is_err());
}

proptest! {
    #[test]
    fn any_records(
        value in proptest::collection::vec(any::<(String, Vec<u8>, Option<i64>, u32)>(), 0..4),
    ) {
        check(&value);
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>) {
        hostile::<Vec<(String, u64)>>(&bytes);
        hostile::<(i128, usize, Option<char>)>(&bytes);
        hostile::<BTreeMap<u16, [f32; 2]>>(&bytes);
        hostile::<Result<bool, Box<Vec<u8>>>>(&bytes);
        hostile::<Shape>(&bytes);
    }
}
