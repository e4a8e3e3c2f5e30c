//! A disk that is full.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fink_tests::flow;
use fink_tests::judge;
use fink_tests::process::until;
use fink_tests::servers::Kafka;
use fink_tests::topic::Topic;

use crate::room::{PATIENCE, Room, templates};

/// A file system of its own, in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, mib: u32) -> Option<Self> {
        fs::create_dir_all(&at).expect("a folder can be made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(&at).status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(Self(at));
        }
        println!("skipped: only root can mount a small disk");
        None
    }

    /// Fills it but for so many bytes.
    fn fill_but(&self, left: u64) {
        let output = Command::new("df").args(["-B1", "--output=avail"]).arg(&self.0).output().expect("df is everywhere");
        let text = String::from_utf8_lossy(&output.stdout);
        let free: u64 = text.lines().nth(1).and_then(|l| l.trim().parse().ok()).expect("df prints a number");
        let bytes = free.saturating_sub(left).to_string();
        let made = Command::new("fallocate").args(["-l", &bytes]).arg(self.0.join("filler")).status().expect("fallocate is everywhere");
        assert!(made.success(), "the disk could not be filled");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_intake_and_nothing_is_lost() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(templates) = templates() else { return };
    let room = Room::new("disk");
    let Some(disk) = SmallDisk::mount(room.folder().join("small"), 200) else { return };
    let archive = disk.0.join("archive");
    let archive_text = archive.to_string_lossy().into_owned();
    let mut topic = Topic::create(&kafka.brokers(), "alerts", 2);
    flow::copies(&mut topic, &templates, 50);
    let fink = fink_tests::process::Fink::archive(&room.logs(), &kafka.brokers(), "alerts", &archive_text);
    let mut run = fink.start();
    until("the first rows", PATIENCE, || judge::rows(&archive, "alerts") == 50);
    disk.fill_but(1_000_000);
    flow::copies(&mut topic, &templates, 200);
    let said = |run: &fink_tests::process::Run| run.said().to_lowercase();
    until("a word of the full disk", PATIENCE, || said(&run).contains("no space") || said(&run).contains("full") || !run.alive());
    std::thread::sleep(Duration::from_secs(3));
    assert!(run.alive(), "it ended:\n{}", run.said());
    assert!(judge::rows(&archive, "alerts") < 250);
    disk.make_room();
    until("the rest", PATIENCE, || judge::rows(&archive, "alerts") == 250);
    assert!(run.stop().success(), "{}", run.said());
    judge::holds(&archive, &[&topic]);
}
