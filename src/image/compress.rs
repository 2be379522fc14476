//! Compressed streams: read by their magic number, written by choice.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::str::FromStr;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::stream::{CONCATENATED, MtStreamBuilder, Stream};

use crate::error::{Context, Error, Result};

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    #[default]
    Zstd,
}

/// Memory that an xz stream may ask for: `xz -9` needs 65 MiB, a hostile header claims 4 GiB.
const XZ_MEMORY: u64 = 1 << 30;

/// The longest window that a zstd stream may ask for, as a power of two: of `zstd --ultra --long=31`. The
/// library's own limit is 27, of `--long`.
const ZSTD_WINDOW: u32 = if cfg!(target_pointer_width = "64") { 31 } else { 30 };

impl Compression {
    /// What a file of this name should be compressed with; `None` where its ending says nothing.
    pub(crate) fn of_file_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "tar" => Some(Compression::None),
            "gz" | "tgz" => Some(Compression::Gzip),
            "xz" | "txz" => Some(Compression::Xz),
            "zst" | "zstd" | "tzst" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The usual ending of a tar archive compressed like this, `tar.zst` for one.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Compression::None => "tar",
            Compression::Gzip => "tar.gz",
            Compression::Xz => "tar.xz",
            Compression::Zstd => "tar.zst",
        }
    }
}

/// What is read: more than is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Lzip,
    Zstd,
}

impl Packed {
    fn of_magic(head: &[u8]) -> Self {
        // gzip: RFC 1952 2.3.1; xz: its format description 2.1.1.1; zstd: RFC 8878 3.1.1, and
        // 3.1.2 for the skippable frame that pzstd writes first. lzma has no magic number: its first byte
        // (properties) and its dictionary, of 64 KiB at least, are as its programs write them.
        const SKIPPABLE: std::ops::RangeInclusive<u8> = 0x50..=0x5f;
        match head {
            [0x1f, 0x8b, ..] => Packed::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packed::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packed::Xz,
            [b'L', b'Z', b'I', b'P', 0 | 1, ..] => Packed::Lzip,
            [0x5d, 0, 0, low, high, ..] if (*low, *high) != (0, 0) => Packed::Lzma,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packed::Zstd,
            [first, 0x2a, 0x4d, 0x18, ..] if SKIPPABLE.contains(first) => Packed::Zstd,
            _ => Packed::Plain,
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "none" => Ok(Compression::None),
            "gz" | "gzip" => Ok(Compression::Gzip),
            "xz" => Ok(Compression::Xz),
            "zst" | "zstd" => Ok(Compression::Zstd),
            _ => {
                Err(Error::usage(format!("`{s}` is not a known compression"))
                    .hint("valid values: zstd, xz, gzip, none"))
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        })
    }
}

/// Decompresses `reader` by what its first bytes say; what has no known magic is passed on as it is.
///
/// Streams of several members (`pigz`, `pzstd`, `cat a.xz b.xz`) are read to their end.
pub(crate) fn decoder<'a>(reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(128 * 1024, Primed::new(reader));
    let head = reader.fill_buf().context(|| "read the first bytes")?;
    let stream = match Packed::of_magic(head) {
        Packed::Plain => return Ok(Box::new(reader)),
        Packed::Gzip => return Ok(Box::new(MultiGzDecoder::new(reader))),
        Packed::Bzip2 => return Ok(Box::new(MultiBzDecoder::new(reader))),
        Packed::Zstd => {
            let start = || {
                let mut decoder = zstd::Decoder::with_buffer(reader)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                io::Result::Ok(decoder)
            };
            return Ok(Box::new(start().context(|| "start to read zstd")?));
        }
        Packed::Xz => Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED),
        Packed::Lzma => Stream::new_lzma_decoder(XZ_MEMORY),
        Packed::Lzip => Stream::new_lzip_decoder(XZ_MEMORY, CONCATENATED),
    };
    let stream = stream.map_err(io::Error::from).context(|| "start to read xz, lzma or lzip")?;
    Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream)))
}

/// Makes the first `read` return enough for a magic number, whatever pieces a pipe hands out.
struct Primed<R> {
    reader: R,
    primed: bool,
}

impl<R: Read> Primed<R> {
    fn new(reader: R) -> Self {
        Primed { reader, primed: false }
    }
}

impl<R: Read> Read for Primed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const LONGEST_MAGIC: usize = 6;
        if std::mem::replace(&mut self.primed, true) {
            return self.reader.read(buffer);
        }
        let mut filled = 0;
        while filled < LONGEST_MAGIC {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }
}

/// Compresses what is written to it; [`Encoder::finish`] must end it.
pub(crate) enum Encoder<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Compresses into `writer` with the tool's own default level, zstd and xz on all processors.
    pub(crate) fn new(writer: W, compression: Compression) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let start = || -> io::Result<Self> {
            Ok(match compression {
                Compression::None => Encoder::None(writer),
                Compression::Gzip => {
                    Encoder::Gzip(flate2::write::GzEncoder::new(writer, flate2::Compression::default()))
                }
                Compression::Xz => {
                    let stream = MtStreamBuilder::new().threads(threads).preset(6).encoder()?;
                    Encoder::Xz(liblzma::write::XzEncoder::new_stream(writer, stream))
                }
                Compression::Zstd => {
                    let mut encoder = zstd::Encoder::new(writer, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                    encoder.include_checksum(true)?;
                    encoder.multithread(threads)?;
                    Encoder::Zstd(encoder)
                }
            })
        };
        start().context(|| format!("start to write {compression}"))
    }

    /// Writes what is still held back and hands the writer out.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Encoder::None(mut writer) => writer.flush().map(|()| writer),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Xz(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::None(writer) => writer,
            Encoder::Gzip(encoder) => encoder,
            Encoder::Xz(encoder) => encoder,
            Encoder::Zstd(encoder) => encoder,
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];

    fn sample() -> Vec<u8> {
        (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    fn compressed(plain: &[u8], compression: Compression) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression).unwrap();
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(bytes: impl Read + Send) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decoder(bytes)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    /// Hands out one byte at a time, as a slow pipe may.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(buffer.len()).min(1);
            self.0.read(&mut buffer[..n])
        }
    }

    #[test]
    fn every_compression_is_read_as_it_was_written() {
        for compression in ALL {
            assert_eq!(decompressed(&*compressed(&sample(), compression)).unwrap(), sample(), "{compression}");
            let short = compressed(b"abc", compression);
            assert_eq!(decompressed(Dribble(&short)).unwrap(), b"abc", "{compression}");
            assert_eq!(compression.to_string().parse::<Compression>().unwrap(), compression);
        }
        assert_eq!(decompressed(&b""[..]).unwrap(), b"");
    }

    #[test]
    fn several_members_one_after_the_other_are_one_stream() {
        for compression in ALL {
            let both = [compressed(b"first ", compression), compressed(b"second", compression)].concat();
            assert_eq!(decompressed(&*both).unwrap(), b"first second", "{compression}");
        }
    }

    #[test]
    fn what_other_programs_pack_is_read_and_checked() {
        for program in ["bzip2", "xz --format=lzma", "lzip", "zstd --long=31 --ultra -22 -q"] {
            let words: Vec<_> = program.split(' ').collect();
            let mut child = match std::process::Command::new(words[0])
                .args(&words[1..])
                .arg("-c")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
            {
                Ok(child) => child,
                Err(e) => {
                    println!("{program}: {e}");
                    continue;
                }
            };
            let mut stdin = child.stdin.take().unwrap();
            let writer = std::thread::spawn(move || stdin.write_all(&sample()).unwrap());
            let packed = child.wait_with_output().unwrap().stdout;
            writer.join().unwrap();
            assert_eq!(decompressed(&*packed).unwrap(), sample(), "{program}");
            assert!(decompressed(&packed[..packed.len() - 5]).is_err(), "cut {program}");
        }
    }

    #[test]
    fn a_cut_or_damaged_stream_is_an_error() {
        for compression in &ALL[1..] {
            let whole = compressed(&sample(), *compression);
            assert!(decompressed(&whole[..whole.len() - 5]).is_err(), "cut {compression}");
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 0x55;
            assert!(decompressed(&*damaged).is_err(), "damaged {compression}");
        }
    }

    #[test]
    fn file_names_say_how_they_are_compressed() {
        for (name, expected) in [
            ("a.tar", Some(Compression::None)),
            ("a.tar.gz", Some(Compression::Gzip)),
            ("a.tgz", Some(Compression::Gzip)),
            ("a.tar.xz", Some(Compression::Xz)),
            ("dir/a.tar.zst", Some(Compression::Zstd)),
            ("a.zip", None),
            ("a", None),
        ] {
            assert_eq!(Compression::of_file_name(Path::new(name)), expected, "{name}");
        }
    }
}
