//! The services of a run: asked in its midst and at its end, and judged by what the alerts of a Moment come to.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fink::services::desk::{Lease, Reader, Seat as DeskSeat, Unready, open};
use fink::services::views::{Curve, counts, nights, object};
use fink::services::{Chosen, Service, ServiceParts};
use fink_dataflow::Moment;
use fink_dataflow::alerts::{AlertBatch, Decoded};
use fink_dataflow::beats::Seat;
use fink_dataflow::budget::Budget;
use fink_dataflow::detection::{ObjectId, SurveyId};
use fink_dataflow::late::{Close, LateSeat};
use fink_sources::archive::history::{History, Reading};
use fink_sources::queue::{Bounds, Inlet, queue};
use timely::order::PartialOrder;

use super::oracle::OBJECTS;

#[path = "../../../bin/tests/services/reference.rs"]
#[allow(dead_code, reason = "cones are not asked for here")]
mod reference;

use reference::{Reference, reference};

/// How near objects of two surveys would be one; there is but one survey.
const ASSOCIATE_ARCSEC: f64 = 1.5;
/// So many steps of workers bring an answer.
const PATIENCE: usize = 2_000;

/// A run's services, and what they said.
pub struct Answers {
    reader: Reader,
    /// What earlier runs made durable.
    past: Vec<AlertBatch>,
    /// What came in this run, and when.
    came: Vec<(Moment, AlertBatch)>,
    /// What was said of which Moment, and whether it was said to be all.
    said: Vec<(Moment, bool, Reference)>,
}

/// What the workers need.
pub struct Seats {
    desks: Vec<Option<DeskSeat>>,
    history: Option<Inlet<AlertBatch>>,
}

impl Seats {
    /// A worker's services. Catalogues there are none.
    pub fn parts(&mut self, index: usize, budget: &Budget, close: Close, yields: &Arc<dyn Fn() -> bool + Send + Sync>) -> ServiceParts {
        let history = self.history.clone().map(|inlet| {
            let seat = Seat { inlet, budget: budget.clone(), index };
            LateSeat { seat, close, yields: Arc::clone(yields) }
        });
        ServiceParts {
            chosen: Chosen::of(Service::ALL.map(|(service, ..)| service)),
            associate_arcsec: ASSOCIATE_ARCSEC,
            history,
            catalogues: None,
            own: Vec::new(),
            lines: None,
            bound: None,
            durable: None,
            seat: self.desks[index].take().expect("each worker is built once"),
            tables: None,
        }
    }
}

impl Answers {
    /// Services of so many workers, whose history is what earlier runs made durable.
    pub fn begin(workers: usize, past: &[AlertBatch]) -> (Self, Seats) {
        let many = usize::MAX;
        let bounds = Bounds { chunks_max: many, bytes_max: many, chunks_per_worker: 1, bytes_per_worker: many };
        let history = (!past.is_empty()).then(|| {
            let (outlet, inlet) = queue(bounds);
            past.iter().for_each(|batch| outlet.send(batch.clone(), Duration::ZERO).map_err(drop).expect("there is room"));
            inlet
        });
        let rows = past.iter().map(|batch| batch.places.len() as u64).sum();
        let read = history.as_ref().map(|_| History::elsewhere(Reading::Done, rows));
        let (reader, desks) = open(workers, read, None);
        let seats = Seats { desks: desks.into_iter().map(Some).collect(), history };
        (Self { reader, past: past.to_vec(), came: Vec::new(), said: Vec::new() }, seats)
    }

    /// Alerts came at a Moment.
    pub fn came(&mut self, moment: Moment, decoded: &[Decoded]) {
        self.came.extend(decoded.iter().flat_map(|part| part.alerts.iter().map(|batch| (moment, batch.clone()))));
    }

    /// Asks for all that is known; `step` lets some worker take a step. `false`: nothing can be asked yet.
    pub fn ask(&mut self, mut step: impl FnMut()) -> Result<bool, String> {
        let Ok(lease) = self.reader.lease() else { return Ok(false) };
        let told = {
            let mut asking = pin!(all(&self.reader, &lease));
            let mut steps = 0;
            loop {
                match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(told) => break told.map_err(|why| format!("no answer at {}: {why}", lease.moment))?,
                    Poll::Pending if steps == PATIENCE => return Err(format!("no answer at {}", lease.moment)),
                    Poll::Pending => steps += 1,
                }
                step();
            }
        };
        self.said.push((lease.moment, lease.complete, told));
        Ok(true)
    }

    /// Whether all that was said is right, and the last of it complete. All that came must have been noted.
    pub fn judge(&self) -> Result<(), String> {
        for (moment, complete, said) in &self.said {
            // What of history is there before all of it is, nobody promises.
            if !(*complete || self.past.is_empty()) {
                continue;
            }
            let came = self.came.iter().filter(|(at, _)| at.less_equal(moment)).map(|(_, batch)| batch);
            let alerts: Vec<AlertBatch> = self.past.iter().chain(came).cloned().collect();
            let right = reference(&alerts, &[], ASSOCIATE_ARCSEC);
            if *said == right {
                continue;
            }
            let object = right.objects.iter().find(|(id, object)| said.objects.get(id) != Some(object));
            return Err(format!(
                "other answers at {moment} than its {} alerts come to: nights {:?}, should be {:?}; object {object:?}, said {:?}",
                alerts.len(),
                said.nights,
                right.nights,
                object.map(|(id, _)| said.objects.get(id))
            ));
        }
        match self.said.last() {
            Some((moment, true, _)) if self.came.iter().all(|(at, _)| at.less_equal(moment)) => Ok(()),
            last => Err(format!("the last answer does not know all: {:?}", last.map(|(moment, complete, _)| (moment, complete)))),
        }
    }
}

/// Everything, at a lease's Moment.
async fn all(reader: &Reader, lease: &Lease) -> Result<Reference, Unready> {
    let mut told = Reference { objects: Default::default(), nights: Default::default() };
    for night in nights(reader, lease).await? {
        let mut counted = counts(reader, lease, night).await?;
        counted.counters.sort();
        counted.classes.sort();
        told.nights.insert(night, counted);
    }
    for number in 0..OBJECTS {
        let id = ObjectId::new(SurveyId(1), &format!("ZTF{number}")).expect("a name");
        told.objects.extend(object(reader, lease, id, Curve::Whole).await?.map(|object| (id, object)));
    }
    Ok(told)
}
