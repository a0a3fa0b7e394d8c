//! Sizes as people write them: `67108864`, `64M`, `4MiB`, `500MB`.
//!
//! Not here: which sizes fit where; whoever asks knows.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// What one of a unit is, in bytes. A letter alone is what `ls` and `dd` mean by it; with a B it is the SI unit (IEC 80000-13).
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write a whole number of bytes, or of K, M, G, T (KiB, MiB, GiB, TiB) or kB, MB, GB, TB, for example 64M")]
pub struct ByteSizeRefused(String);

/// The number of bytes that a text says.
///
/// # Errors
/// When it is no whole number, has another unit, or is beyond 2^64.
pub fn parse(text: &str) -> Result<u64, ByteSizeRefused> {
    let refused = || ByteSizeRefused(text.chars().take(80).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit.trim_start_matches(' ')).ok_or_else(refused)?;
    number.parse().ok().and_then(|number: u64| number.checked_mul(bytes)).ok_or_else(refused)
}

/// Reads a size that stands in a file as a number of bytes or as a text.
///
/// # Errors
/// When it is neither, or too large for the type.
pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(ByteSize(PhantomData))
}

/// The same, of a size that need not be there.
///
/// # Errors
/// Likewise.
pub fn deserialize_some<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserialize(deserializer).map(Some)
}

struct ByteSize<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for ByteSize<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size in bytes, for example 67108864 or \"64M\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<T, E> {
        T::try_from(bytes).map_err(|_| E::custom(format_args!("{bytes} bytes are too many for this machine")))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<T, E> {
        u64::try_from(bytes).map_err(|_| E::custom(ByteSizeRefused(bytes.to_string()))).and_then(|bytes| self.visit_u64(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        parse(text).map_err(E::custom).and_then(|bytes| self.visit_u64(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [("0", 0), ("17", 17), ("17B", 17), ("4MiB", 4 << 20), ("64M", 64 << 20), ("64 MiB", 64 << 20), ("1kB", 1_000)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!((parse("2G"), parse("2GB"), parse("1TiB")), (Ok(2 << 30), Ok(2_000_000_000), Ok(1 << 40)));
        for wrong in ["", "M", "-1", "1.5G", "64m", "64Mb", "64MiBs", "18446744073709551616", "17179869184G", " 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_say_them_as_numbers_or_as_text() {
        #[derive(Deserialize)]
        struct File(#[serde(deserialize_with = "deserialize")] u32);
        let read = |json: &str| serde_json::from_str::<File>(json).map(|file| file.0).map_err(|error| error.to_string());
        assert_eq!((read("4096"), read("\"4K\"")), (Ok(4096), Ok(4096)));
        assert!(read("-1").is_err() && read("\"4Q\"").unwrap_err().contains("not a size"));
        assert!(read("\"4G\"").unwrap_err().contains("too many"));
    }
}
