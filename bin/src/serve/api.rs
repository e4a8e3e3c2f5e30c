//! The routes that the services' answers are read by.
//!
//! | path | what it is |
//! |---|---|
//! | `/api/v1/objects?objectId=` | an object, with its light curve |
//! | `/api/v1/conesearch?ra=&dec=&radius=` | the objects around a place (degrees, arcseconds), nearest first |
//! | `/api/v1/statistics?night=` | counts of a night, or of all nights |
//! | `/api/v1/own/NAME?key=` | what a service of one's own answers |
//! | `/api/v1/catalogs` | the catalogues, and since which Moment each counts |
//!
//! An answer says of which Moment it is exact, and whether it is complete. An error is `{"error": "…"}`, with what to do.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use fink_dataflow::detection::ObjectId;
use fink_operators::surveys::SURVEYS;
use serde::{Deserialize, Serialize};

use super::{Answering, Board};
use crate::own::answers::ask;
use crate::services::answers::{self, Answer, CataloguesAnswer, ConeAnswer, OneAnswer, OwnAnswer, StatisticsAnswer};
use crate::services::catalogues::Names;
use crate::services::catalogues::register::Register;
use crate::services::desk::{Reader, Unready};
use crate::services::start::Services;
use crate::services::views::{self, Curve};
use crate::services::{Chosen, Service};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The widest cone, in arcseconds.
const RADIUS_MAX: f64 = 18_000.0;
/// Objects of a cone, at most.
const OBJECTS_MAX: usize = 1_000;

/// Whom the routes ask.
#[derive(Clone)]
pub struct Desk {
    /// Who reads.
    pub reader: Reader,
    /// What catalogues are called.
    pub names: Names,
    /// Which services run.
    pub chosen: Chosen,
    /// What is known of the catalogues.
    pub register: Register,
    /// The archive's place.
    pub archive: String,
    /// The services of one's own that run.
    pub own: Arc<[String]>,
}

impl Desk {
    /// The desk of these services.
    #[must_use]
    pub fn of(services: &Services) -> Self {
        let Services { reader, register, archive, .. } = services;
        let (reader, register, archive) = (reader.clone(), register.clone(), archive.clone());
        let own = services.own().map(str::to_owned).collect();
        Self { reader, names: services.names(), chosen: services.chosen().clone(), register, archive, own }
    }
}

/// The routes of the services.
pub fn routes(board: Board) -> Router {
    Router::new()
        .route("/api/v1/objects", get(object))
        .route("/api/v1/conesearch", get(cone))
        .route("/api/v1/statistics", get(statistics))
        .route("/api/v1/catalogs", get(catalogs))
        .route("/api/v1/own/{service}", get(own))
        .with_state(board)
}

/// Why there is no answer.
struct Failure {
    code: StatusCode,
    what: String,
}

impl Failure {
    fn new(code: StatusCode, what: impl Into<String>) -> Self {
        Self { code, what: what.into() }
    }
}

impl From<Unready> for Failure {
    fn from(unready: Unready) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, unready.to_string())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

/// What was asked, if it could be read.
type Asked<Q> = Result<Query<Q>, QueryRejection>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.code, Json(serde_json::json!({ "error": self.what }))).into_response()
    }
}

async fn patiently<A: Serialize>(answer: impl Future<Output = Result<Answer<A>, Failure>>) -> Response {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(failure)) => failure.into_response(),
        Err(_) => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no answer within 10 s: the workers are busy").into_response(),
    }
}

impl Board {
    /// Whom to ask about what a service knows.
    fn desk(&self, service: Service) -> Result<Arc<Desk>, Failure> {
        let none =
            "no services run here: start them beside it, `fink start services --archive ...`, or in it, `fink start archive services`";
        let asked = self.services.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let desk = match asked {
            Answering::Starting => return Err(Unready::Starting.into()),
            Answering::Nobody => return Err(Failure::new(StatusCode::NOT_FOUND, none)),
            Answering::Desk(desk) => desk,
        };
        if desk.chosen.has(service) {
            return Ok(desk);
        }
        let (_, name, _) = Service::ALL.into_iter().find(|(each, ..)| *each == service).expect("it is one of them");
        let what = format!("the service `{name}` does not run here: start it beside the archive, `fink start archive {name}`");
        Err(Failure::new(StatusCode::NOT_FOUND, what))
    }
}

#[derive(Deserialize)]
struct ObjectQuery {
    #[serde(rename = "objectId")]
    object_id: Option<String>,
    survey: Option<String>,
}

async fn object(State(board): State<Board>, query: Asked<ObjectQuery>) -> Response {
    patiently(async move {
        let Query(query) = query?;
        let desk = board.desk(Service::Objects)?;
        let wrong = |what: &str| Failure::new(StatusCode::BAD_REQUEST, what);
        let name = query.object_id.ok_or_else(|| wrong("objectId is missing: /api/v1/objects?objectId=ZTF21abiuvdk"))?;
        let lease = desk.reader.lease()?;
        for survey in SURVEYS.into_iter().filter(|survey| query.survey.as_deref().is_none_or(|wanted| wanted == survey.name)) {
            let Some(id) = ObjectId::new(survey.id, &name) else { return Err(wrong("no survey has object ids like this one")) };
            if let Some(found) = views::object(&desk.reader, &lease, id, Curve::Whole).await? {
                return Ok(Answer::at(&lease, OneAnswer { object: answers::object(&found, None, &desk.names) }));
            }
        }
        let so_far = if lease.complete { "" } else { "; history is still being read: ask again later" };
        Err(Failure::new(StatusCode::NOT_FOUND, format!("no object {name} is known at Moment {}{so_far}", lease.moment)))
    })
    .await
}

#[derive(Deserialize)]
struct ConeQuery {
    ra: Option<f64>,
    dec: Option<f64>,
    radius: Option<f64>,
}

async fn cone(State(board): State<Board>, query: Asked<ConeQuery>) -> Response {
    patiently(async move {
        let Query(query) = query?;
        let desk = board.desk(Service::Objects)?;
        let wrong = |what: &str| Failure::new(StatusCode::BAD_REQUEST, what);
        let (Some(ra), Some(dec), Some(radius)) = (query.ra, query.dec, query.radius) else {
            return Err(wrong("ra and dec (degrees) and radius (arcseconds) are needed: /api/v1/conesearch?ra=193.8&dec=2.9&radius=5"));
        };
        if !ra.is_finite() || !(-90.0..=90.0).contains(&dec) {
            return Err(wrong("ra and dec are degrees, dec from -90 to 90"));
        }
        if !(radius > 0.0 && radius <= RADIUS_MAX) {
            return Err(wrong("radius is in arcseconds, more than 0 and at most 18000"));
        }
        let lease = desk.reader.lease()?;
        let found = views::cone(&desk.reader, &lease, (ra.rem_euclid(360.0), dec), radius, OBJECTS_MAX).await?;
        let objects = found.iter().map(|(separation, object)| answers::object(object, Some(*separation), &desk.names)).collect();
        Ok(Answer::at(&lease, ConeAnswer { objects }))
    })
    .await
}

#[derive(Deserialize)]
struct StatisticsQuery {
    night: Option<String>,
}

async fn statistics(State(board): State<Board>, query: Asked<StatisticsQuery>) -> Response {
    patiently(async move {
        let Query(query) = query?;
        let desk = board.desk(Service::Monitor)?;
        let lease = desk.reader.lease()?;
        let nights = match query.night.as_deref() {
            None => views::nights(&desk.reader, &lease).await?,
            Some(text) => match answers::night(text) {
                Some(night) => vec![Some(night)],
                None => return Err(Failure::new(StatusCode::BAD_REQUEST, format!("`{text}` is no night, such as 2026-11-22"))),
            },
        };
        let mut told = Vec::with_capacity(nights.len());
        for night in nights {
            told.push(answers::counts(night, &views::counts(&desk.reader, &lease, night).await?));
        }
        Ok(Answer::at(&lease, StatisticsAnswer { nights: told }))
    })
    .await
}

async fn catalogs(State(board): State<Board>) -> Response {
    patiently(async move {
        let desk = board.desk(Service::Crossmatch)?;
        let lease = desk.reader.lease()?;
        let answer = CataloguesAnswer { archive: desk.archive.clone(), catalogues: desk.register.catalogues() };
        Ok(Answer::at(&lease, answer))
    })
    .await
}

#[derive(Deserialize)]
struct OwnQuery {
    key: Option<String>,
}

async fn own(State(board): State<Board>, Path(service): Path<String>, query: Asked<OwnQuery>) -> Response {
    patiently(async move {
        let Query(query) = query?;
        let desk = board.desk(Service::Classify)?;
        if !desk.own.contains(&service) {
            let run = if desk.own.is_empty() { "none does".to_owned() } else { format!("there run: {}", desk.own.join(", ")) };
            return Err(Failure::new(StatusCode::NOT_FOUND, format!("no service `{service}` of one's own runs here; {run}")));
        }
        let missing = || Failure::new(StatusCode::BAD_REQUEST, format!("key is missing: /api/v1/own/{service}?key=KEY"));
        let key = query.key.ok_or_else(missing)?;
        let lease = desk.reader.lease()?;
        let answers = ask(&desk.reader, &lease, &service, &key).await?;
        if answers.is_empty() {
            let so_far = if lease.complete { "" } else { "; history is still being read: ask again later" };
            let what = format!("{service} answers nothing to `{key}` at Moment {}{so_far}", lease.moment);
            return Err(Failure::new(StatusCode::NOT_FOUND, what));
        }
        Ok(Answer::at(&lease, OwnAnswer { service, key, answers }))
    })
    .await
}
