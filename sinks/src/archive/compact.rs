//! Compaction: which small files of a table become one.
//!
//! Files are sorted into tiers by their rows, each tier [`CompactOptions::fan_in`] times the one below. When a tier is full,
//! its files and those below it become one file, of a higher tier. So each row is rewritten at most once a tier: as often
//! as the logarithm of the rows of a partition. What was not added to for a while is tidied up: small files whose rows at
//! least equal the largest one's become one, so that each row's file at least doubles, or is the largest.
//!
//! A file of [`CompactOptions::bytes_min`] is never touched again, and none larger than
//! [`CompactOptions::bytes_max`] is made. Partitions are never mixed.

use std::collections::BTreeMap;

use fink_dataflow::table::entry::DataFile;

pub use super::rewrite::{RewriteError, Rewritten, rewrite};

/// What compaction aims at.
#[derive(Clone, Copy, Debug)]
pub struct CompactOptions {
    /// The size at which a file is left alone.
    pub bytes_min: u64,
    /// The size that no new file passes, as its inputs add up.
    pub bytes_max: u64,
    /// How many files of a tier become one.
    pub fan_in: usize,
    /// How long after its last file a partition is tidied up, in milliseconds.
    pub settle_ms: i64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { bytes_min: 128 << 20, bytes_max: 512 << 20, fan_in: 8, settle_ms: 3_600_000 }
    }
}

/// Files of one partition that become one, with their rows in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The partition's values.
    pub partition: Vec<(String, Option<String>)>,
    /// The files, oldest first; at least two.
    pub inputs: Vec<DataFile>,
}

/// The rewrites that are due among a table's files. `now_ms` is compared with the files' own times only to tell whether a
/// partition is still written to.
#[must_use]
pub fn plan(files: &[DataFile], now_ms: i64, options: &CompactOptions) -> Vec<Rewrite> {
    let mut partitions: BTreeMap<&[(String, Option<String>)], Vec<&DataFile>> = BTreeMap::new();
    for file in files {
        partitions.entry(&file.partition).or_default().push(file);
    }
    partitions.into_iter().flat_map(|(partition, files)| plan_partition(partition, &files, now_ms, options)).collect()
}

fn plan_partition(partition: &[(String, Option<String>)], files: &[&DataFile], now_ms: i64, options: &CompactOptions) -> Vec<Rewrite> {
    let last_ms = files.iter().map(|file| file.modified_ms).max().unwrap_or(0);
    let mut small: Vec<&DataFile> = files.iter().copied().filter(|file| file.size < options.bytes_min).collect();
    small.sort_by_key(|file| (file.rows, &file.path));
    let mut bins = full_tiers(&small, options);
    if bins.is_empty() && now_ms.saturating_sub(last_ms) >= options.settle_ms {
        bins = leftovers(&small, options);
    }
    let rewrite = |mut inputs: Vec<&DataFile>| {
        inputs.sort_by_key(|file| (file.modified_ms, &file.path));
        Rewrite { partition: partition.to_vec(), inputs: inputs.into_iter().cloned().collect() }
    };
    bins.into_iter().map(rewrite).collect()
}

fn tier(rows: u64, fan_in: usize) -> u32 {
    rows.max(1).ilog(fan_in.max(2) as u64)
}

/// The files of the highest full tier and those below, in bins. `small` is in order of rows.
fn full_tiers<'a>(small: &[&'a DataFile], options: &CompactOptions) -> Vec<Vec<&'a DataFile>> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    small.iter().for_each(|file| *counts.entry(tier(file.rows, options.fan_in)).or_default() += 1);
    let Some((&full, _)) = counts.iter().rev().find(|(_, count)| **count >= options.fan_in) else { return Vec::new() };
    let due: Vec<&DataFile> = small.iter().copied().filter(|file| tier(file.rows, options.fan_in) <= full).collect();
    // A bin is worth its work when its file rises to a higher tier, or is done.
    let worth = |bin: &Vec<&DataFile>| {
        let rows: u64 = bin.iter().map(|file| file.rows).sum();
        bin.len() > 1 && (tier(rows, options.fan_in) > full || bytes(bin) >= options.bytes_min)
    };
    bins(due, options).into_iter().filter(worth).collect()
}

/// What is left of a partition that nobody writes to any more: all but files larger than the rest together.
fn leftovers<'a>(small: &[&'a DataFile], options: &CompactOptions) -> Vec<Vec<&'a DataFile>> {
    let mut rest = small.to_vec();
    while let Some((largest, others)) = rest.split_last() {
        if others.iter().map(|file| file.rows).sum::<u64>() >= largest.rows {
            break;
        }
        rest.pop();
    }
    bins(rest, options).into_iter().filter(|bin| bin.len() > 1).collect()
}

/// Files in order, as many together as the largest size allows.
fn bins<'a>(files: Vec<&'a DataFile>, options: &CompactOptions) -> Vec<Vec<&'a DataFile>> {
    let mut bins: Vec<Vec<&DataFile>> = Vec::new();
    for file in files {
        match bins.last_mut() {
            Some(bin) if bytes(bin) + file.size <= options.bytes_max => bin.push(file),
            _ => bins.push(vec![file]),
        }
    }
    bins
}

fn bytes(files: &[&DataFile]) -> u64 {
    files.iter().map(|file| file.size).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: usize, day: usize, rows: u64, size: u64) -> DataFile {
        let partition = vec![("day".to_owned(), Some(day.to_string()))];
        DataFile { path: format!("{name:08}"), size, modified_ms: name as i64, partition, rows, stats: String::new() }
    }

    /// Files, and how often each row of each was rewritten at most.
    type Table = Vec<(DataFile, u32)>;

    fn compact(table: &mut Table, now_ms: i64, options: &CompactOptions, next: &mut usize) -> bool {
        let files: Vec<DataFile> = table.iter().map(|(file, _)| file.clone()).collect();
        let due = plan(&files, now_ms, options);
        for rewrite in &due {
            assert!(rewrite.inputs.len() > 1);
            assert!(rewrite.inputs.iter().all(|file| file.partition == rewrite.partition && file.size < options.bytes_min));
            let (mut rows, mut size, mut times) = (0, 0, 0);
            for input in &rewrite.inputs {
                let at = table.iter().position(|(file, _)| file.path == input.path).expect("each file is in one rewrite only");
                times = times.max(table.swap_remove(at).1);
                rows += input.rows;
                size += input.size;
            }
            assert!(size <= options.bytes_max);
            let DataFile { partition, .. } = &rewrite.inputs[0];
            *next += 1;
            let made = DataFile { partition: partition.clone(), ..file(*next, 0, rows, size) };
            table.push((made, times + 1));
        }
        !due.is_empty()
    }

    proptest! {
        #[test]
        fn rows_are_kept_and_rewritten_as_often_as_the_logarithm(sizes in proptest::collection::vec((1u64..400, 0usize..2), 1..600)) {
            let options = CompactOptions { bytes_min: 1 << 20, bytes_max: 4 << 20, ..CompactOptions::default() };
            let (mut table, mut next, mut total) = (Table::new(), 0, [0u64; 2]);
            for (rows, day) in sizes {
                next += 1;
                total[day] += rows;
                table.push((file(next, day, rows, rows * 100), 0));
                let now = next as i64;
                while compact(&mut table, now, &options, &mut next) {}
                for day in 0..2 {
                    let name = Some(day.to_string());
                    let of_day: Vec<_> = table.iter().filter(|(file, _)| file.partition[0].1 == name).collect();
                    prop_assert_eq!(of_day.iter().map(|(file, _)| file.rows).sum::<u64>(), total[day]);
                    let small = of_day.iter().filter(|(file, _)| file.size < options.bytes_min).count();
                    prop_assert!(small <= 7 * (tier(1 << 20, 8) as usize), "{small} small files");
                }
            }
            let most = tier(total[0].max(total[1]), 8) + 1;
            prop_assert!(table.iter().all(|(_, times)| *times <= most), "{most} rewrites at most");
            // Once nothing comes any more: each small file that is left is larger than all smaller ones together.
            while compact(&mut table, i64::MAX, &options, &mut next) {}
            let small = table.iter().filter(|(file, _)| file.size < options.bytes_min).count();
            prop_assert!(small <= 2 * 14, "{small} small files");
        }
    }

    #[test]
    fn a_night_of_commits_stays_in_tens_of_files() {
        let options = CompactOptions::default();
        let (mut table, mut next, mut most, mut written) = (Table::new(), 0, 0, 0);
        for _ in 0..5_000 {
            next += 1;
            table.push((file(next, 0, 50, 50 * 2_000), 0));
            while compact(&mut table, next as i64, &options, &mut next) {}
            most = most.max(table.len());
            written = written.max(table.iter().map(|(_, times)| *times).max().unwrap_or(0));
        }
        assert!(most <= 50, "{most} live files");
        assert!(written <= 6, "{written} rewrites");
    }

    #[test]
    fn a_settled_partition_is_tidied_up_but_its_large_file_left_alone() {
        let options = CompactOptions::default();
        let files = vec![file(1, 0, 1_000_000, 100 << 20), file(2, 0, 10, 1000), file(3, 0, 12, 1000), file(4, 0, 3, 1000)];
        assert_eq!(plan(&files, 100, &options), []);
        let due = plan(&files, options.settle_ms + 4, &options);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].inputs.iter().map(|file| file.rows).collect::<Vec<_>>(), [10, 12, 3]);
        assert_eq!(plan(&files[..2], options.settle_ms + 4, &options), []);
    }
}
