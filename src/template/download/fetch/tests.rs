//! Against a server of our own that behaves as badly as real ones.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};

use sha2::{Digest, Sha256};

use super::*;

/// How a server answers a request.
#[derive(Clone, Copy)]
enum Manner {
    Whole,
    /// Sends as many bytes of each answer, then closes the connection.
    CutAfter(usize),
    /// Knows nothing of ranges, and cuts the first answer.
    NoRanges,
    /// Says nothing after the headers.
    Silent,
    Status(u16),
}

/// Serves `body` at any address; answers one request a connection.
fn serve(body: Vec<u8>, manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            let body = body.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &body, manner, nth).ok());
        }
    });
    format!("http://{address}/file")
}

fn answer(mut stream: TcpStream, body: &[u8], manner: Manner, nth: usize) -> std::io::Result<()> {
    let mut from = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    if let Manner::Status(status) = manner {
        return stream.write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes());
    }
    let from = from.filter(|_| !matches!(manner, Manner::NoRanges)).unwrap_or(0);
    let (rest, total) = (&body[from..], body.len());
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = if from > 0 { format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1) } else { String::new() };
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}\r\n", rest.len()).as_bytes())?;
    match manner {
        Manner::CutAfter(n) => stream.write_all(&rest[..n.min(rest.len())]),
        Manner::NoRanges if nth == 0 => stream.write_all(&rest[..rest.len() / 2]),
        Manner::Silent => {
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        }
        _ => stream.write_all(rest),
    }
}

fn body() -> Vec<u8> {
    (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect()
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn fetcher() -> Fetcher {
    Fetcher::with_timeout(Duration::from_millis(300))
}

#[test]
fn a_file_comes_whole_however_often_the_connection_is_cut() {
    for manner in [Manner::Whole, Manner::CutAfter(70_000), Manner::NoRanges] {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(body(), manner);
        let file = fetcher().download(&url, "f", &sha(&body()), body().len() as u64, dir.path()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), body());
        file.remove().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn an_interrupted_download_resumes_if_it_is_of_this_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(sha(&body()));
    for left in [body()[..100_000].to_vec(), vec![1; 100_000], vec![2; 400_000]] {
        std::fs::write(&path, &left).unwrap();
        let url = serve(body(), Manner::Whole);
        let file = fetcher().download(&url, "f", &sha(&body()), body().len() as u64, dir.path()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), body());
        drop(file);
    }
}

#[test]
fn failed_downloads_are_reported_and_leave_nothing_wrong() {
    let mut corrupt = body();
    corrupt[1000] ^= 1;
    let long = [body(), vec![0]].concat();
    for (served, manner, says) in [
        (corrupt, Manner::Whole, "digest"),
        (long, Manner::Whole, "longer"),
        (body()[..1000].to_vec(), Manner::Whole, "shorter"),
        (body(), Manner::Silent, "sent nothing"),
        (body(), Manner::Status(404), "404"),
        (body(), Manner::Status(503), "503"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(served, manner);
        let e = fetcher().download(&url, "f", &sha(&body()), body().len() as u64, dir.path()).unwrap_err();
        assert!(e.to_string().contains(says), "{e}");
        assert!(e.to_string().contains(&url), "{e}");
    }
    let e = fetcher().read("http://127.0.0.1:1/x", 100).unwrap_err();
    assert!(e.to_string().contains("127.0.0.1:1"), "{e}");
}

#[test]
fn lists_have_a_limit() {
    let url = serve(body(), Manner::Whole);
    assert_eq!(fetcher().read(&url, 300_000).unwrap(), body());
    assert!(fetcher().read(&url, 299_999).unwrap_err().to_string().contains("longer"));
}
