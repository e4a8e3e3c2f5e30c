//! What a process does beside: snapshots and cleaning of the ledger, vacuum, compaction, and accepted holes, by the product's
//! rules of what may go.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use fink_dataflow::Coverage;
use fink_dataflow::table::entry::{DataFile, Removed};
use fink_dataflow::table::ledger::{cleaned_age, kept_from};
use fink_sinks::archive::commit::{Ask, Edit, TableEdit};
use fink_sinks::archive::compacting::{CompactionOptions, choose};
use fink_sinks::archive::merge::Refusal;
use fink_sinks::archive::vacuum::Folder;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::process::Process;
use super::reader::store;

/// Begins all of it.
pub fn begin(process: &Rc<Process>) {
    let tasks = &process.world.tasks;
    tasks.spawn(process.owner, snapshots(process.clone()));
    tasks.spawn(process.owner, vacuum(process.clone()));
    tasks.spawn(process.owner, compaction(process.clone()));
    tasks.spawn(process.owner, acceptance(process.clone()));
}

async fn snapshots(process: Rc<Process>) {
    let (every, pause) = process.world.tasks.chance(|chance| (chance.between(3, 20), chance.between(500, 6_000)));
    let mut last = process.state().next;
    loop {
        process.world.tasks.sleep(pause).await;
        let state = process.state();
        if state.next < last + every {
            continue;
        }
        last = state.next;
        let settled = process.machine.borrow().as_ref().map_or(0, |machine| machine.settled());
        let put = process.world.calls.write(move |store, now| drop(store.snapshots.insert(state.next, (state, now))));
        if put.await.is_ok() && process.still_ours().await {
            process.world.stats.borrow_mut().snapshots += 1;
            clean(&process, settled).await;
        }
    }
}

async fn clean(process: &Rc<Process>, settled: u64) {
    let listed = process.world.calls.read(|store| {
        let entries: Vec<(u64, u64)> = store.entries.iter().map(|(number, (_, at))| (*number, *at)).collect();
        let snapshots: Vec<(u64, u64)> = store.snapshots.iter().map(|(number, (_, at))| (*number, *at)).collect();
        (entries, snapshots)
    });
    let Ok((entries, snapshots)) = listed.await else { return };
    let Some(keep_from) = kept_from(settled, snapshots.iter().map(|(number, _)| *number)) else { return };
    let age = u64::try_from(cleaned_age(Duration::ZERO).as_millis()).expect("small");
    let (now, spared) = (process.world.tasks.now(), snapshots.len().saturating_sub(2));
    let old = |at: u64| now - at > age;
    for (number, at) in entries {
        if number < keep_from && old(at) && process.world.calls.write(move |store, _| drop(store.entries.remove(&number))).await.is_ok() {
            process.world.stats.borrow_mut().cleaned += 1;
        }
    }
    for (number, at) in snapshots.into_iter().take(spared) {
        if old(at) {
            let _ = process.world.calls.write(move |store, _| drop(store.snapshots.remove(&number))).await;
        }
    }
}

fn time(ms: u64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp_millis(i64::try_from(ms).expect("small")).expect("small")
}

async fn vacuum(process: Rc<Process>) {
    let pause = process.world.tasks.chance(|chance| chance.between(5_000, 40_000));
    loop {
        process.world.tasks.sleep(pause).await;
        let (now, state) = (process.world.tasks.now(), process.state());
        for name in state.tables.keys() {
            let table = name.clone();
            let listed = process.world.calls.read(move |store| {
                let mine = store.files.iter().filter(|((of, _), _)| *of == table);
                mine.map(|((_, path), (_, at))| (path.clone(), *at)).collect::<Vec<_>>()
            });
            let Ok(listed) = listed.await else { continue };
            let table = name.clone();
            let read = process.world.calls.read(move |store| {
                store.tables.get(&table).map(|table| (table.live.keys().cloned().collect::<Vec<_>>(), table.removed.clone()))
            });
            let Ok(Some((live, removed))) = read.await else { continue };
            let live: HashSet<Path> = live.iter().map(|path| Path::from(path.as_str())).collect();
            let removed: HashMap<Path, _> = removed.iter().map(|(path, at)| (Path::from(path.as_str()), time(*at))).collect();
            let retention = Duration::from_millis(process.world.retention);
            let folder = Folder { live: &live, removed: &removed, generation: process.generation.get(), now: time(now), retention };
            let meta =
                |path: &str, at| ObjectMeta { location: Path::from(path), last_modified: time(at), size: 1, e_tag: None, version: None };
            let doomed: Vec<String> =
                listed.into_iter().filter(|(path, at)| folder.dooms(&meta(path, *at))).map(|(path, _)| path).collect();
            for batch in doomed.chunks(4) {
                if !process.still_ours().await {
                    break;
                }
                for path in batch {
                    let (table, path) = (name.clone(), path.clone());
                    let _ = process.world.calls.write(move |store, now| store.delete_file(&table, &path, now)).await;
                }
            }
        }
    }
}

async fn compaction(process: Rc<Process>) {
    let (pause, fan_in) = process.world.tasks.chance(|chance| (chance.between(1_000, 12_000), chance.between(2, 5)));
    let options =
        CompactionOptions { fan_in: usize::try_from(fan_in).expect("small"), enough_bytes: 20_000, ..CompactionOptions::default() };
    loop {
        process.world.tasks.sleep(pause).await;
        for name in process.state().tables.keys() {
            if name.as_ref() != "rejects" {
                compact(&process, name, &options).await;
            }
        }
    }
}

/// Puts some files of a night into one.
async fn compact(process: &Rc<Process>, name: &Arc<str>, options: &CompactionOptions) {
    let table = name.clone();
    let read = process.world.calls.read(move |store| {
        store.tables.get(&table).map(|table| (table.live.values().cloned().collect::<Vec<_>>(), table.versions.last().map(|v| v.entry)))
    });
    let Ok(Some((live, as_of))) = read.await else { return };
    let nights: Vec<Option<String>> = live.iter().map(|file| file.partition[0].1.clone()).collect();
    let Some(night) = nights.first().cloned().flatten() else { return };
    let night =
        nights.iter().flatten().nth(process.world.tasks.chance(|c| c.below(nights.len() as u64)) as usize).unwrap_or(&night).clone();
    let quiet = process.world.tasks.chance(|chance| chance.permille(300));
    let folder = live.iter().filter(|file| file.partition[0].1.as_ref() == Some(&night));
    let chosen: Vec<DataFile> = choose(folder, quiet, options).into_iter().cloned().collect();
    if chosen.is_empty() {
        return;
    }
    let mut rows = Vec::new();
    for file in &chosen {
        let key = (name.clone(), file.path.clone());
        let Ok(Some(of)) = process.world.calls.read(move |store| store.files.get(&key).map(|(rows, _)| rows.clone())).await else { return };
        rows.extend(of.iter().cloned());
    }
    let merged = store(process, name, night.parse().expect("a night"), rows).await;
    let removes = chosen.iter().map(|file| Removed { path: file.path.clone(), rows: file.rows }).collect();
    let part = TableEdit { table: name.clone(), as_of, adds: vec![merged], removes, data_change: false };
    match process.ask(Ask::Edit(Edit { note: "compaction".to_owned(), tables: vec![part], ..Edit::default() })).await {
        Ok(()) => process.world.stats.borrow_mut().compactions += 1,
        Err(Refusal::Changed(_)) => process.world.stats.borrow_mut().refused += 1,
        Err(refusal) => process.world.wrong(format!("a compaction is refused: {refusal}")),
    }
}

/// A person accepts what is lost.
async fn acceptance(process: Rc<Process>) {
    loop {
        process.world.tasks.sleep(20_000).await;
        let mut holes = Coverage::default();
        let accepts = process.world.tasks.chance(|chance| chance.permille(300));
        if accepts {
            let state = process.state();
            let said = process.world.said.borrow().clone();
            for (log, spans) in said.iter() {
                let covered = state.coverage.get(log).cloned().unwrap_or_default();
                for gap in spans.iter().flat_map(|span| covered.gaps(span)) {
                    holes.insert(log, gap);
                }
            }
            if let Err(refusal) = process.ask(Ask::Accept(holes)).await {
                process.world.wrong(format!("holes can't be accepted: {refusal}"));
            }
        }
    }
}
