//! The flags of the simulator: of the stream in the process, and of the service that sends to a Kafka.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use fink_sources::simulator::pace::{Pace, Visits};
use fink_sources::simulator::send::folder::{FolderOptions, Records};
use fink_sources::simulator::send::{Feed, SendOptions};
use fink_sources::simulator::survey::Survey;
use fink_sources::simulator::trouble::Trouble;
use fink_sources::simulator::{AlertOptions, Framing, Rate, SimulatorConfig, system_clock};

use super::start::seconds;
use crate::config::Configured;
use crate::settings::{AlertSize, AlertSurvey, End, SimulatorRun, alerts};

/// A night's first visit is no sooner than so long after the last of the night before, where the sky's clock is kept.
const DAY: Duration = Duration::from_secs(600);

/// What the simulator takes: the one in the process, and the service.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Simulator")]
pub(super) struct SimulatorArgs {
    /// What its alerts are made from: the same seed, the same sky and the same bytes [default: 1]
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Whose alerts: ztf (schema 4.02) or lsst (11.0) [default: ztf]
    #[arg(long)]
    pub(super) survey: Option<AlertSurvey>,
    /// Alerts a second [default: 10]
    #[arg(long, value_name = "ALERTS")]
    pub(super) rate: Option<f64>,
    /// Partitions of its topic [default: 4]
    #[arg(long, value_name = "N")]
    pub(super) partitions: Option<u64>,
    /// Small alerts (2 kB of data, no history) or full ones (ZTF 70 kB, LSST 130 kB) [default: small with --simulator, else full]
    #[arg(long)]
    pub(super) size: Option<AlertSize>,
    /// With --simulator: how many alerts lie there at its first start [default: 0]
    #[arg(long, value_name = "ALERTS")]
    pub(super) backlog: Option<u64>,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    trouble: TroubleArgs,
}

/// What the service sends.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Simulator: what is sent")]
struct WhatArgs {
    /// ocf (an Avro container each), confluent (a zero byte, a schema id, the datum) or datum (bare) [default: ztf ocf, lsst confluent]
    #[arg(long)]
    format: Option<Framing>,
    /// Send so many alerts, then end
    #[arg(long, value_name = "ALERTS")]
    count: Option<u64>,
    /// The night of the first alert, as a UTC date at its evening [default: the night before today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    night: Option<chrono::NaiveDate>,
    /// Send so many nights whole, then end
    #[arg(long, value_name = "N", conflicts_with = "count")]
    nights: Option<u32>,
    /// Lasting objects brighter than about magnitude 19 in the whole sky [default: 1000000; small: 100000]
    #[arg(long, value_name = "N")]
    objects: Option<u32>,
    /// Alerts of each visit [default: ztf 250, lsst and --visits 10000]
    #[arg(long, value_name = "N")]
    alerts_per_visit: Option<u32>,
    /// Write what was sent, where it is, and what is true of it, to this Parquet file
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Replay the alerts of a folder of Avro files; also --from FOLDER
    #[arg(long, value_name = "FOLDER")]
    from_folder: Option<PathBuf>,
    /// With a folder: send so many files, repeating them where there are fewer
    #[arg(long, alias = "poolsize", value_name = "FILES")]
    pool: Option<usize>,
    /// With a folder and --interval: so many files in each interval [default: 1]
    #[arg(long, value_name = "FILES")]
    per_interval: Option<usize>,
    /// With a folder and --format datum or confluent: only the first record of each file
    #[arg(long)]
    first_records: bool,
    /// With a folder: give each alert ids that were never sent, and times as of now
    #[arg(long)]
    fresh: bool,
}

/// When it is sent.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Simulator: when it is sent")]
struct PaceArgs {
    /// Send an alert (of a folder: a file) so often, instead of a rate
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "rate")]
    interval: Option<Duration>,
    /// Rubin's shape: 10,000 alerts every 37 s, sent within 3 s in 189 bursts
    #[arg(long, conflicts_with_all = ["rate", "interval"])]
    visits: bool,
    /// Keep the sky's own clock, so many times as fast: 1 is a night as it is, without the day between nights
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["rate", "interval", "visits"])]
    speed: Option<f64>,
    /// Send as fast as the broker takes them
    #[arg(long, conflicts_with_all = ["rate", "interval", "visits", "speed"])]
    as_fast_as_possible: bool,
    /// Threads that make alerts ahead of their turn; the stream is the same whatever their number [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How much of the stream may be made ahead, such as a visit in the pause before it, in MiB [default: 64; --visits: 1024]
    #[arg(long, value_name = "MIB")]
    ahead: Option<usize>,
    /// Make all alerts before the first is sent, into a file of this folder that goes when the simulator ends
    #[arg(long, value_name = "FOLDER")]
    prepare: Option<PathBuf>,
}

/// What goes wrong, on request. Shares are of all alerts, from 0 to 1; the same seed, the same trouble.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Simulator: trouble on request (the truth tells of each)")]
struct TroubleArgs {
    /// The share that comes late, by --delay-from to --delay-to
    #[arg(long, value_name = "SHARE", value_parser = share)]
    delayed: Option<f64>,
    /// How late at least [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "delayed")]
    delay_from: Option<Duration>,
    /// How late at most [default: 86400]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "delayed")]
    delay_to: Option<Duration>,
    /// The share that is sent twice, within a minute
    #[arg(long, value_name = "SHARE", value_parser = share)]
    duplicated: Option<f64>,
    /// The share that comes up to 5 s after its turn
    #[arg(long, value_name = "SHARE", value_parser = share)]
    disordered: Option<f64>,
    /// The share in which some bytes are wrong
    #[arg(long, value_name = "SHARE", value_parser = share)]
    garbled: Option<f64>,
    /// The share that is cut short
    #[arg(long, value_name = "SHARE", value_parser = share)]
    truncated: Option<f64>,
    /// From this alert on (the first is 0), records have one field more
    #[arg(long, value_name = "ALERT")]
    schema_change_at: Option<u64>,
    /// At this alert, send nothing for --outage, then all that was due
    #[arg(long, value_name = "ALERT", requires = "outage")]
    outage_at: Option<u64>,
    /// How long nothing is sent
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "outage_at")]
    outage: Option<Duration>,
    /// At the end, send all once more
    #[arg(long)]
    resend: bool,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "takes a share, from 0 to 1".to_owned())
}

/// What else a run of the service is made of: flags that it has in common with others.
pub(super) struct Common<'a> {
    pub(super) configured: &'a Configured,
    pub(super) topics: Vec<String>,
    /// `--from`: of the simulator a folder.
    pub(super) from: Option<&'a str>,
    pub(super) end: End,
}

impl SimulatorArgs {
    /// The run of the service.
    pub(super) fn run(&self, common: Common<'_>) -> anyhow::Result<SimulatorRun> {
        let Common { configured, topics, from, end } = common;
        let client = configured.kafka_client()?.context("name the Kafka to send to: --brokers HOST:PORT")?;
        let stream = configured.simulator()?;
        let topic = match topics.as_slice() {
            [] => stream.topic.clone(),
            [topic] if !topic.starts_with('^') => topic.clone(),
            _ => bail!("--topic: the simulator sends to one topic"),
        };
        let what = &self.what;
        let folder = what.from_folder.clone().or_else(|| from.map(PathBuf::from));
        let mut options = SendOptions::new(&client.brokers, &topic);
        (options.sasl, options.tls, options.properties) = (client.sasl, client.tls, client.properties);
        options.partitions = Some(stream.partitions);
        options.seed = stream.seed;
        options.truth.clone_from(&what.truth);
        options.registry = configured.registry()?;
        options.registry_login = configured.login()?;
        options.trouble = self.trouble.trouble();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        options.threads = self.pace.threads.unwrap_or(threads).clamp(1, 64);
        options.ahead_bytes = self.pace.ahead.unwrap_or(if self.pace.visits { 1024 } else { 64 }) << 20;
        options.prepare.clone_from(&self.pace.prepare);
        options.count = what.count;
        let (feed, about) = match folder {
            Some(folder) => self.folder(&folder, &mut options, stream.rate)?,
            None => {
                // What is sent is of the survey's size, unless the flag says otherwise: the file's `size` is for the stream in the process.
                let size = self.size.unwrap_or(AlertSize::Full);
                let config = SimulatorConfig {
                    topic,
                    partitions: stream.partitions,
                    rate: Rate::per_second(stream.rate)?,
                    alerts: self.alerts(stream.survey, size),
                    ..SimulatorConfig::new(stream.seed, system_clock())
                };
                self.stream(config, &mut options)?
            }
        };
        Ok(SimulatorRun { feed, about, options, end })
    }

    /// What the alerts are like.
    fn alerts(&self, survey: AlertSurvey, size: AlertSize) -> AlertOptions {
        let mut alerts = alerts(survey, size);
        let usual = if survey == AlertSurvey::Lsst { Framing::Confluent } else { Framing::Container };
        alerts.framing = self.what.format.unwrap_or(usual);
        if let Some(objects) = self.what.objects {
            alerts.survey.objects = objects;
        }
        if self.pace.visits {
            alerts.survey.alerts_per_visit = Visits::RUBIN.alerts as u32;
        }
        if let Some(count) = self.what.alerts_per_visit {
            alerts.survey.alerts_per_visit = count;
        }
        alerts
    }

    /// A stream of the sky.
    fn stream(&self, mut config: SimulatorConfig, options: &mut SendOptions) -> anyhow::Result<(Feed, String)> {
        if let Some(night) = self.what.night {
            // The modified Julian day 40587 began 1970.
            let days = night.signed_duration_since(chrono::NaiveDate::default()).num_days();
            config.night_mjd = i32::try_from(days + 40_587).context("--night")?;
        }
        config.check()?;
        let per_visit = u64::from(config.alerts.survey.alerts_per_visit);
        let nights = self.what.nights.map(|nights| (Survey::new(&config.survey()), nights));
        if let Some((survey, nights)) = nights {
            let visits = survey?.visits_of(config.night_mjd, nights);
            options.count = Some(visits.count() as u64 * per_visit);
        }
        options.pace = match (&self.pace, self.pace.speed) {
            (_, Some(speed)) if speed <= 0.0 || !speed.is_finite() => bail!("--speed takes a number above 0"),
            (_, Some(speed)) => sky_pace(&config, options.count, speed)?,
            (pace, _) if pace.as_fast_as_possible => Pace::Fast(config.rate),
            (pace, _) if pace.visits => Pace::Visits(Visits { alerts: per_visit, ..Visits::RUBIN }),
            (PaceArgs { interval: Some(interval), .. }, _) => Pace::Visits(Visits::at_once(1, *interval)),
            _ => Pace::Rate(config.rate),
        };
        let survey = &config.alerts.survey;
        let about = format!("the sky of seed {}, as {:?} sees it from {} on", config.seed, survey.telescope, date(config.night_mjd));
        Ok((Feed::Stream(config, 0), about))
    }

    /// A folder's files.
    fn folder(&self, path: &Path, options: &mut SendOptions, rate: f64) -> anyhow::Result<(Feed, String)> {
        if !path.is_dir() {
            bail!("--from: {} is no folder", path.display());
        }
        if self.pace.visits || self.pace.speed.is_some() || self.pace.prepare.is_some() {
            bail!(
                "--visits, --speed and --prepare are of the simulated sky; a folder is sent with --rate, --interval or --as-fast-as-possible"
            );
        }
        options.pace = match self.pace.interval {
            _ if self.pace.as_fast_as_possible => Pace::Fast(Rate::per_second(rate)?),
            Some(interval) => Pace::Visits(Visits::at_once(1, interval)),
            None => Pace::Rate(Rate::per_second(rate)?),
        };
        let feed = FolderOptions {
            pool: self.what.pool,
            framing: self.what.format.unwrap_or(Framing::Container),
            records: if self.what.first_records { Records::First } else { Records::All },
            files_per_interval: self.what.per_interval.unwrap_or(1),
            fresh: self.what.fresh,
            ..FolderOptions::new(path)
        };
        Ok((Feed::Folder(feed), format!("the files of {}", path.display())))
    }
}

impl TroubleArgs {
    fn trouble(&self) -> Trouble {
        let seconds = |given: Option<Duration>, usual| given.unwrap_or(Duration::from_secs(usual));
        Trouble {
            delayed: self.delayed.unwrap_or(0.0),
            delay: (seconds(self.delay_from, 60), seconds(self.delay_to, 86_400)),
            duplicated: self.duplicated.unwrap_or(0.0),
            disordered: self.disordered.unwrap_or(0.0),
            garbled: self.garbled.unwrap_or(0.0),
            truncated: self.truncated.unwrap_or(0.0),
            schema_change_at: self.schema_change_at,
            outage: self.outage_at.zip(self.outage),
            resent: self.resend,
        }
    }
}

/// The times of the sky's visits, so many times as fast; days between nights are passed over.
fn sky_pace(config: &SimulatorConfig, count: Option<u64>, speed: f64) -> anyhow::Result<Pace> {
    let survey = Survey::new(&config.survey())?;
    let alerts = u64::from(config.alerts.survey.alerts_per_visit);
    // Without an end: as many visits as a year has, and then as the last two.
    let visits = count.map_or(300_000, |count| count.div_ceil(alerts)).clamp(2, 300_000) as i64;
    let first = survey.first_visit();
    let times = (first..first + visits).map(|visit| survey.visit(visit).mjd_tai);
    let mut begins: Vec<Duration> = Vec::new();
    let mut last = None;
    for time in times {
        let pause = last.map_or(Duration::ZERO, |last: f64| Duration::from_secs_f64(((time - last) * 86_400.0).max(0.0)).min(DAY));
        begins.push(begins.last().copied().unwrap_or_default() + pause.div_f64(speed));
        last = Some(time);
    }
    Ok(Pace::Sky { alerts, begins })
}

fn date(mjd: i32) -> chrono::NaiveDate {
    chrono::NaiveDate::default() + chrono::Days::new(u64::from((mjd - 40_587).unsigned_abs()))
}
