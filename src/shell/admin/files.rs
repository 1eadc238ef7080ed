//! The live page: files that are part of the program, served as they are.
//!
//! The page itself is in `page/`; its charts are uPlot's (`vendor/uplot`, written by
//! `scripts/page`), and its subscriber is our own JavaScript client. Not here: what the page asks
//! for (`pages`). Invariant: the files are the same for everybody who asks, so they need no token.

use super::pages::Page;
use super::request::Request;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Path, kind and text.
type File = (&'static str, &'static str, &'static str);

const PAGE: [File; 12] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", STYLE, include_str!("page/style.css")),
    ("/page/icon.svg", PICTURE, include_str!("page/icon.svg")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/server.js", SCRIPT, include_str!("page/server.js")),
    ("/page/figures.js", SCRIPT, include_str!("page/figures.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/page/overview.js", SCRIPT, include_str!("page/overview.js")),
    ("/page/tables.js", SCRIPT, include_str!("page/tables.js")),
    ("/page/subscriber.js", SCRIPT, include_str!("page/subscriber.js")),
    ("/page/uplot.js", SCRIPT, include_str!("../../../vendor/uplot/uPlot.iife.min.js")),
    ("/page/uplot.css", STYLE, include_str!("../../../vendor/uplot/uPlot.min.css")),
];

macro_rules! client {
    ($($name:literal),*) => {
        [$((
            concat!("/client/", $name),
            SCRIPT,
            include_str!(concat!("../../../clients/javascript/src/", $name)),
        )),*]
    };
}

/// `client.js` and what it imports.
const CLIENT: [File; 12] = client!(
    "ab.js",
    "binary.js",
    "client.js",
    "leg.js",
    "protocol.js",
    "queue.js",
    "requests.js",
    "route.js",
    "session.js",
    "socket.js",
    "statehash.js",
    "timers.js"
);

/// The file that is asked for, if there is one.
pub(super) fn file(request: &Request) -> Option<Page> {
    let mut files = PAGE.iter().chain(&CLIENT);
    let found = files.find(|(path, ..)| request.method == "GET" && request.path == *path);
    found.map(|&(_, kind, text)| Page::file(kind, text))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    /// Every path that a file names, whether it loads it as a script, a style or an import.
    fn named<'a>(folder: &'a str, text: &'a str) -> impl Iterator<Item = String> + 'a {
        let quoted = text.split('"').skip(1).step_by(2);
        quoted.filter_map(move |word| {
            let is_file = [".js", ".css", ".svg"].iter().any(|end| word.ends_with(end));
            match word.strip_prefix("./") {
                Some(beside) if is_file => Some(format!("{folder}/{beside}")),
                None if is_file => Some(word.to_owned()),
                _ => None,
            }
        })
    }

    #[test]
    fn the_chart_library_is_the_one_whose_hashes_are_recorded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/uplot");
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        assert_eq!(sums.lines().count(), 3);
        for line in sums.lines() {
            let (wanted, name) = line.split_once("  ").unwrap();
            let bytes = std::fs::read(folder.join(name)).unwrap();
            let hash: String =
                digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, wanted, "{name} was changed by hand; scripts/page writes it");
        }
    }

    #[test]
    fn every_file_that_a_file_loads_is_there_and_none_is_of_another_host() {
        let mut seen = 0;
        for (path, kind, text) in
            PAGE.iter().chain(&CLIENT).filter(|file| file.0 != "/page/uplot.js")
        {
            let folder = path.rsplit_once('/').unwrap().0;
            let imports = text.lines().filter(|line| {
                *kind == HTML || line.starts_with("import ") || line.starts_with("} from ")
            });
            for line in imports {
                for name in named(folder, line) {
                    let head = format!("GET {name} HTTP/1.1\r\n\r\n");
                    let request = Request::parse(head.as_bytes()).unwrap();
                    assert!(file(&request).is_some(), "{path} loads {name}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen} names were looked at");
    }
}
