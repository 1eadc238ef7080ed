//! Small captures made on the spot; the real ones are read by `tests/captures.rs`.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::config::Speed;
use crate::limits::LINE_BYTES_MAX;

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn replay(files: Vec<PathBuf>) -> Replay {
    Replay { speed: Speed::Max, ..Replay::new(ReplayInput::Files(files)) }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every record as `file:line time json`, and the error at the end.
fn read(replay: &Replay) -> (Vec<String>, Option<String>) {
    let mut records = Vec::new();
    let mut capture = match Capture::open(replay) {
        Ok(capture) => capture,
        Err(error) => return (records, Some(error.to_string())),
    };
    loop {
        match capture.next_record() {
            Ok(None) => return (records, None),
            Err(error) => {
                let error = error.to_string();
                assert_eq!(capture.next_record().unwrap(), None);
                return (records, Some(error));
            }
            Ok(Some(record)) => records.push(format!(
                "{}:{} {} {}",
                record.file.stem,
                record.line_number,
                record.time_ns.map_or_else(|error| error.code().to_owned(), |ns| ns.to_string()),
                String::from_utf8_lossy(record.line),
            )),
        }
    }
}

#[test]
fn files_are_merged_by_time_whatever_their_packing_and_line_format() {
    let folder = Folder::new("merge");
    let plain = b"1 {\"a\":1}\n\n3 {\"a\":2}\r\n{\"ts\":5,\"channel\":\"x\"}\n5 [5]";
    let first = gzip(b"{\"ts\":0}\n{\"ts\":3}\n");
    let members = [first, gzip(b"5 x\n"), gzip(b"{\"ts\":6}\n")].concat();
    let files = vec![folder.write("b.x.gz", plain), folder.write("a.log", &members)];
    let expected = [
        "a:1 0 {\"ts\":0}",
        "b:1 1 {\"a\":1}",
        "b:3 3 {\"a\":2}",
        "a:2 3 {\"ts\":3}",
        "b:4 5 {\"ts\":5,\"channel\":\"x\"}",
        "b:5 5 [5]",
        "a:3 5 x",
        "a:4 6 {\"ts\":6}",
    ];
    let merged = replay(files);
    let (records, error) = read(&merged);
    assert_eq!((records, error), (expected.map(str::to_owned).to_vec(), None));
    let (sorted, error) = read(&Replay { sort: true, ..merged });
    assert_eq!((sorted, error), (expected.map(str::to_owned).to_vec(), None));
}

#[test]
fn a_line_without_a_time_is_reported_in_its_place_and_ends_nothing() {
    let folder = Folder::new("timeless");
    let mut lines =
        b"5 {}\nnot json\n{\"a\":1}\n{\"ts\":\"x\"}\n99999999999999999999 {}\n".to_vec();
    lines.resize(lines.len() + LINE_BYTES_MAX, b'x');
    lines.extend_from_slice(b"\n6 {}\n");
    let files = vec![folder.write("a", &lines), folder.write("b", b"5 b\n")];
    let expected = [
        "a:1 5 {}",
        "a:2 json_invalid not json",
        "a:3 no_time {\"a\":1}",
        "a:4 field_type {\"ts\":\"x\"}",
        "a:5 time_invalid {}",
        "a:6 line_too_long ",
        "b:1 5 b",
        "a:7 6 {}",
    ];
    let merged = replay(files);
    assert_eq!(read(&merged), (expected.map(str::to_owned).to_vec(), None));
}

#[test]
fn a_step_back_in_time_ends_the_replay_and_sort_cures_it() {
    let folder = Folder::new("backwards");
    let text = b"{\"t\":\"1970-01-01T00:00:00.000000002Z\"}\n{\"t\":1}\n{\"t\":1,\"n\":2}\n";
    let time = Some(Pointer::parse("/t").unwrap());
    let ordered = Replay { time, ..replay(vec![folder.write("x", text)]) };
    let (records, error) = read(&ordered);
    assert_eq!(records.len(), 1);
    let error = error.unwrap();
    for part in ["x: line 2", "1 ns", "sort=true"] {
        assert!(error.contains(part), "{error}");
    }
    let (records, error) = read(&Replay { sort: true, ..ordered });
    assert_eq!(error, None);
    let order: Vec<&str> = records.iter().map(|record| &record[..5]).collect();
    assert_eq!(order, ["x:2 1", "x:3 1", "x:1 2"]);
}

#[test]
fn a_truncated_gzip_is_an_error_after_all_lines_before_it() {
    let folder = Folder::new("truncated");
    let text: String = (0..20_000).map(|n| format!("{n} [{}]\n", n * 7_919 % 10_007)).collect();
    let packed = gzip(text.as_bytes());
    let files = vec![folder.write("cut.gz", &packed[..packed.len() / 2])];
    let cut = replay(files);
    for replay in [cut.clone(), Replay { sort: true, ..cut }] {
        let (records, error) = read(&replay);
        assert!(records.len() > 1_000, "{}", records.len());
        let last = records.len() - 1;
        assert!(records[last].ends_with(&format!("{last} [{}]", last * 7_919 % 10_007)));
        let error = error.unwrap();
        assert!(
            error.contains("cut.gz") && error.contains(&format!("line {}", last + 1)),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = Folder::new("unreadable");
    for path in [folder.0.join("absent.gz"), folder.0.clone()] {
        let (_, error) = read(&replay(vec![path.clone()]));
        let error = error.unwrap();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    let empty = folder.write("empty", b"");
    assert_eq!(read(&replay(vec![empty])), (vec![], None));
    let broken = folder.write("broken.gz", b"\x1f\x8bnot gzip");
    assert!(read(&replay(vec![broken])).1.unwrap().contains("broken.gz"));
}

#[test]
fn an_embedded_capture_needs_no_file() {
    static LINES: &[u8] = b"7 {}\n";
    let input = ReplayInput::Embedded(LINES);
    let embedded = Replay { input, ..replay(Vec::new()) };
    assert_eq!(read(&embedded).0, ["embedded:1 7 {}"]);
}

#[test]
fn sorting_is_bounded_and_a_capture_can_change_threads() {
    fn is_send<T: Send>() {}
    is_send::<Capture>();
    let names = FileNames::of(Path::new("big"));
    let mut files = vec![CaptureFile::open(names, || Ok(&b"1 {}\n2 {}\n3 {}\n"[..])).unwrap()];
    let error = Sorted::read(&mut files, 2 * (size_of::<Entry>() + 2)).unwrap_err().to_string();
    assert!(error.contains("big") && error.contains("line 3"), "{error}");
}
