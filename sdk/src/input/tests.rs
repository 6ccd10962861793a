//! However an input is cut, its lines are those of the whole.
#![allow(clippy::unwrap_used)]

use super::{LineReader, Piece, default_partitions, split};
use offshoot_proto::abi::InputFile;
use proptest::prelude::*;
use std::io::{self, Read};

/// Hands out at most so many bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(self.1);
        self.0.read(&mut buffer[..limit])
    }
}

fn file(path: &str, length: usize) -> InputFile {
    InputFile { path: path.to_owned(), length: length as u64, modified_nanos: 0 }
}

/// The rule itself: a line ends at `\n`, and what follows the last one is a line if not empty.
fn naive(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fn read(text: &[u8], piece: &Piece, step: usize, buffer: usize) -> Vec<Vec<u8>> {
    let from = piece.range.start.saturating_sub(1) as usize;
    let input = Slow(&text[from..], step);
    let mut reader = LineReader::new(input, piece.range.clone(), vec![0; buffer]).unwrap();
    let mut lines = Vec::new();
    while reader.advance().unwrap() {
        let (offset, line) = (reader.offset() as usize, reader.line());
        assert!(piece.range.contains(&(offset as u64)), "{offset} in {piece:?}");
        assert!(&text[offset..offset + line.len()] == line, "offset of a line");
        lines.push(line.to_vec());
    }
    lines
}

fn read_all(texts: &[Vec<u8>], partitions: u32, step: usize, buffer: usize) -> Vec<Vec<u8>> {
    let files = texts.iter().enumerate();
    let files = files.map(|(index, text)| file(&index.to_string(), text.len())).collect();
    let pieces = split(files, partitions);
    assert_eq!(pieces.len(), partitions as usize);
    let lines = pieces.iter().flatten().flat_map(|piece| {
        let text = &texts[piece.file.path.parse::<usize>().unwrap()];
        read(text, piece, step, buffer)
    });
    lines.collect()
}

const NASTY: [&[u8]; 12] = [
    b"",
    b"\n",
    b"\n\n\n",
    b"a",
    b"a\n",
    b"a\nb",
    b"\na\n\nbb\nccc\n",
    b"a\r\nb\r\n\r\n\rc\r",
    b"no newline at the end, and longer than the smallest buffer",
    b"\n\nends with a long line of many bytes without an end",
    b"\xff\xfe\n\0\n\x0b\x0a\x8a\n",
    b"0123456\n01234567\n012345678\n",
];

#[test]
fn every_cut_of_nasty_texts() {
    for text in NASTY {
        let piece = |range| Piece { file: file("0", text.len()).into(), range };
        let length = text.len() as u64;
        for first in 0..=length {
            for second in first..=length {
                let pieces = [0..first, first..second, second..length].map(piece);
                let lines: Vec<_> =
                    pieces.iter().flat_map(|piece| read(text, piece, 3, 4)).collect();
                assert_eq!(lines, naive(text), "{text:?} cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn lines_of_megabytes() {
    let long = |byte, length| vec![byte; length];
    let text = [
        long(b'x', 1_500_000),
        b"\nshort\n".to_vec(),
        long(b'y', 3_000_001),
        b"\r\n".to_vec(),
        long(b'z', 2_000_000),
    ]
    .concat();
    for partitions in [1, 2, 5, 64] {
        let lines = read_all(std::slice::from_ref(&text), partitions, 256 << 10, 128 << 10);
        assert!(lines == naive(&text), "{partitions} partitions");
    }
}

#[test]
fn many_small_files_share_partitions() {
    let texts: Vec<Vec<u8>> =
        (0..1000).map(|index| format!("file {index}\nend").into_bytes()).collect();
    let expected: Vec<_> = texts.iter().flat_map(|text| naive(text)).collect();
    assert_eq!(read_all(&texts, 7, 64, 16), expected);
    let files = texts.iter().map(|text| file("f", text.len())).collect();
    let shares = split(files, 7);
    assert!(shares.iter().all(|share| (130..160).contains(&share.len())));
    assert!(shares.iter().map(Vec::len).sum::<usize>() <= 1000 + 6, "one cut each, at most");
}

#[test]
fn shares_are_equal_and_cover_everything() {
    let files = vec![file("a", 100), file("b", 0), file("c", 3), file("d", 297)];
    let shares = split(files, 4);
    for share in &shares {
        let bytes: u64 = share.iter().map(|piece| piece.range.end - piece.range.start).sum();
        assert_eq!(bytes, 100, "{share:?}");
    }
    assert!(split(vec![file("a", 0)], 3).iter().all(Vec::is_empty));
    assert_eq!(split(Vec::new(), 2), [vec![], vec![]]);
}

#[test]
fn default_numbers_of_partitions() {
    assert_eq!(default_partitions(0, 4), 4);
    assert_eq!(default_partitions(512 << 20, 2), 8);
    assert_eq!(default_partitions((512 << 20) + 1, 2), 9);
}

proptest! {
    #[test]
    fn any_files_any_cut(
        texts in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a')], 0..30),
            0..6,
        ),
        partitions in 1u32..12, step in 1usize..9, buffer in 0usize..20,
    ) {
        let expected: Vec<_> = texts.iter().flat_map(|text| naive(text)).collect();
        prop_assert_eq!(read_all(&texts, partitions, step, buffer), expected);
    }
}
