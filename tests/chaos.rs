//! Chaos: resets at random, a drain, a kill -9; and nobody misses, repeats or mixes up anything.
//!
//! Goal: two minutes of a capture go to 300 clients on all policies while their connections are
//! reset at random moments, the server is drained once and killed once, each time followed by one
//! with the same journal. Of every client the merged stream is the capture's, minus what receipts
//! or conflation declare, without a repetition; its books equal the reference level by level, and
//! its hashes the server's.
//!
//! Method: the event of each `seq` is known before it is sent. Most clients are state machines
//! written for this test from the protocol, the others are those of `fanfare::client`. `SEED`
//! repeats a run as far as its dice go; the timing is the machine's.
//!
//! Without the recorded day (see `whole_capture`) the short capture of `examples/data` is played.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use chaos::crew::{Crew, Ends, Sailor};
use chaos::member::{Member, Tally};
use chaos::plan::{Dice, Plan};
use chaos::stage::{Shot, Stage};
use chaos::truth::Truth;
use chaos::{Over, Weather, library, relay};
use day::Day;

#[path = "chaos/mod.rs"]
mod chaos;
#[path = "end_to_end/day.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod day;
#[path = "frames/mod.rs"]
mod frames;
#[path = "random/mod.rs"]
mod random;
#[path = "end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

const MEMBERS: usize = 260;
const LIBRARY: usize = 40;

/// Threads that read for the members.
const CREWS: usize = 2;

/// From the last event until everybody has everything: clients of the library that were reset
/// several times wait for many seconds before they come back.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn nobody_misses_or_repeats_anything_while_connections_and_servers_come_and_go() {
    let seed = std::env::var("SEED").ok().map_or_else(any_seed, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let begun = Instant::now();
    let day = Day::found();
    let truth = Truth::new(&day);
    let end = truth.end();
    println!("{end} events on {} channels, {:.1?}", truth.channels.len(), begun.elapsed());
    let weather = Arc::new(Weather::default());
    let mut stage = Stage::new(&truth);
    stage.start();

    let listen = stage.listen;
    let truth = &truth;
    let mut crews: Vec<_> = (0..CREWS).map(|_| Vec::new()).collect();
    for number in 0..MEMBERS {
        let mut dice = Dice::new(seed, number);
        let plan = Plan::new(number, &day, truth, &mut dice);
        crews[number % CREWS].push((Member::new(plan, truth), dice));
    }
    let relayed = relay::to(listen, &weather, Dice::new(seed, MEMBERS + LIBRARY));
    let url = format!("ws://{relayed}/v1");
    let plans: Vec<_> = (0..LIBRARY)
        .map(|number| Plan::of_library(number, &day, truth, &mut Dice::new(seed, MEMBERS + number)))
        .collect();

    let (sailors, readers) = thread::scope(|scope| {
        let weather = &*weather;
        let over = Over(weather);
        let crews: Vec<_> = (crews.into_iter())
            .map(|crew| scope.spawn(move || Crew::new(listen, truth, weather, crew).sail()))
            .collect();
        let url = &url;
        let readers: Vec<_> = (plans.iter())
            .map(|plan| scope.spawn(move || library::follow(plan, url, truth, weather)))
            .collect();
        stage.play(end / 3, Some(Shot::Drain));
        stage.start();
        stage.play(end * 2 / 3, Some(Shot::Kill));
        stage.start();
        stage.play(end, None);
        println!("all is sent after {:.1?}", begun.elapsed());
        weather.calm();
        let deadline = Instant::now() + PATIENCE;
        let is_done =
            || crews.iter().all(|t| t.is_finished()) && readers.iter().all(|t| t.is_finished());
        while !is_done() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        drop(over);
        let sailors: Vec<_> = crews.into_iter().flat_map(|crew| crew.join().unwrap()).collect();
        let readers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (sailors, readers)
    });
    println!("everybody has everything after {:.1?}", begun.elapsed());
    judge(&sailors, &readers);
    drop(stage);
}

/// Shows what was counted, and fails with what is wrong.
fn judge(sailors: &[Sailor], readers: &[(Tally, Option<String>)]) {
    let (mut members, mut library, mut ends) =
        (Tally::default(), Tally::default(), Ends::default());
    for sailor in sailors {
        members += sailor.member.tally;
        ends += sailor.ends;
    }
    for (tally, _) in readers {
        library += *tally;
    }
    println!("members: {members:?}\n{ends:?}\nlibrary: {library:?}");
    let wrong: Vec<_> = (sailors.iter().filter_map(|sailor| sailor.wrong.as_ref()))
        .chain(readers.iter().filter_map(|(_, wrong)| wrong.as_ref()))
        .collect();
    for what in wrong.iter().take(8) {
        eprintln!("{what}\n");
    }
    assert!(wrong.is_empty(), "{} of {} clients are wrong", wrong.len(), MEMBERS + LIBRARY);
    // It was one.
    let counted = [members.replays, members.cut_recoveries, members.receipts, members.too_old];
    assert!(counted.iter().all(|&count| count > 0), "{members:?}");
    assert!(members.books > 0 && members.verified > 0 && library.books > 0);
    assert!(ends.reset > 0 && ends.closed > 0);
}

fn any_seed() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    u64::try_from(now.as_nanos()).expect("before 2554")
}
