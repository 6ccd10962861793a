//! Integers: seven bits a byte, the lowest first; signed ones zigzag (0, -1, 1, -2, ...).

use super::{Malformed, Record, malformed};
use crate::raw::plain::Plain;

macro_rules! unsigned {
    ($($int:ty),*) => {$(
        impl Record for $int {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                let mut rest = *self;
                while rest > 0x7f {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }

            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
                // Most numbers are small.
                if let Some((byte, rest)) = input.split_first()
                    && *byte < 0x80
                {
                    *input = rest;
                    return Ok(Self::from(*byte));
                }
                let mut value: Self = 0;
                let mut shift = 0;
                for (index, byte) in input.iter().enumerate() {
                    let bits = Self::from(byte & 0x7f);
                    if shift >= Self::BITS || bits << shift >> shift != bits {
                        return Err(malformed::<Self>("a number is out of range"));
                    }
                    value |= bits << shift;
                    if *byte < 0x80 {
                        *input = &input[index + 1..];
                        return Ok(value);
                    }
                    shift += 7;
                }
                Err(malformed::<Self>("the bytes end too early"))
            }

            fn plain() -> Option<Plain<Self>> {
                Some(Plain::<Self>::NUMBER)
            }
        }
    )*};
}
unsigned!(u16, u32, u64, u128, usize);

macro_rules! signed {
    ($($int:ty as $unsigned:ty),*) => {$(
        impl Record for $int {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                ((self << 1) ^ (self >> (Self::BITS - 1))).cast_unsigned().encode(out);
            }

            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
                let zigzag = <$unsigned>::decode(input)?;
                Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
            }

            fn plain() -> Option<Plain<Self>> {
                Some(Plain::<Self>::NUMBER)
            }
        }
    )*};
}
signed!(i16 as u16, i32 as u32, i64 as u64, i128 as u128, isize as usize);
