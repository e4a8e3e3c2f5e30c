//! Which schema goes where, over restarts too.

use arrow::datatypes::DataType;
use fink_dataflow::alerts::{Form, WriterSchema};

use super::super::samples::{commit, list, schema, structure, ztf};
use super::*;

fn none() -> Routes {
    Routes::new(&State::default()).expect("an empty state")
}

fn table(routes: &Routes, schema: &WriterSchema) -> String {
    routes.route(schema).expect("routed").table.to_string()
}

const F: DataType = DataType::Float64;

#[test]
fn the_first_family_takes_alerts_and_others_their_own() {
    let routes = none();
    assert_eq!(table(&routes, &ztf(false)), "alerts");
    assert_eq!(table(&routes, &schema("lsst.v10_0.alert", &[("diaSourceId", DataType::Int64)])), "alerts_lsst");
    assert_eq!(table(&routes, &schema("lsst.v11_0.alert", &[("diaSourceId", DataType::Int64), ("x", F)])), "alerts_lsst");
    assert_eq!(table(&routes, &schema("Näme", &[("a", F)])), "alerts_n_me");
    assert_eq!(table(&routes, &ztf(false)), "alerts");
}

#[test]
fn new_fields_at_any_depth_evolve_the_table_and_fewer_fit_it() {
    for (first, then) in [(false, true), (true, false)] {
        let (routes, mut state) = (none(), State::default());
        assert_eq!(table(&routes, &ztf(first)), "alerts");
        commit(&routes, &mut state, &["alerts"]);
        let before = state.tables["alerts"].schema.clone();
        assert_eq!(table(&routes, &ztf(then)), "alerts");
        let pending = routes.pending(&state, [&Arc::from("alerts")]);
        assert_eq!(pending.routes.len(), 1);
        assert_eq!(pending.schemas.is_empty(), first, "a schema with fewer columns changes nothing");
        commit(&routes, &mut state, &["alerts"]);
        let after = types::from_json(&state.tables["alerts"].schema).expect("a schema");
        let full = types::of_columns(ztf(true).columns.fields()).expect("a schema");
        assert_eq!(types::merge(&after, &full).as_ref(), Some(&after), "it holds all columns of both");
        assert!(types::merge(&types::from_json(&before).expect("a schema"), &full).is_some());
        let none_left = routes.pending(&state, [&Arc::from("alerts")]);
        assert!(none_left.routes.is_empty() && none_left.schemas.is_empty());
    }
}

#[test]
fn anything_else_opens_another_table_of_the_family() {
    let routes = none();
    let a = |kind: DataType| schema("ztf.alert", &[("a", kind), ("s", structure(&[("b", F)])), ("l", list(structure(&[("c", F)])))]);
    assert_eq!(table(&routes, &a(DataType::Int32)), "alerts");
    assert_eq!(table(&routes, &a(DataType::Int64)), "alerts_ztf_2", "a widened number");
    assert_eq!(table(&routes, &schema("ztf.alert", &[("A", DataType::Int32)])), "alerts_ztf_3", "a name that differs by case");
    assert_eq!(
        table(&routes, &schema("ztf.alert", &[("l", list(structure(&[("c", DataType::Utf8)])))])),
        "alerts_ztf_3",
        "the newest that can"
    );
    assert_eq!(table(&routes, &schema("ztf.alert", &[("s", structure(&[("B", F)]))])), "alerts_ztf_3");
    assert_eq!(table(&routes, &schema("ztf.alert", &[("s", F), ("l", F)])), "alerts_ztf_4");
    assert_eq!(table(&routes, &schema("ztf.alert", &[("topic", F), ("z", F)])), "alerts_ztf_5", "a name of ours");
    assert_eq!(table(&routes, &schema("ztf.alert", &[("year", F)])), "alerts_ztf_6");
}

#[test]
fn a_table_keeps_its_names_for_ours() {
    let (routes, mut state) = (none(), State::default());
    let shape = routes.route(&schema("fink.alert", &[("topic", F), ("year", F)])).expect("routed");
    assert_eq!(shape.partition_columns, ["year_fink", "month", "day"]);
    commit(&routes, &mut state, &["alerts"]);
    assert_eq!(state.tables["alerts"].partition_columns, shape.partition_columns);
    let again = Routes::new(&state).expect("its own state");
    let shape = again.route(&schema("fink.alert", &[("other", F)])).expect("routed");
    assert_eq!((&*shape.table, &shape.partition_columns[0][..]), ("alerts", "year_fink"));
    assert!(shape.columns.field_with_name("topic_fink").is_ok() && shape.columns.field_with_name("topic").is_err());
}

#[test]
fn raw_rows_have_a_table_of_their_own() {
    let routes = none();
    let raw = |name: &str| {
        let of = schema(name, &[("datum", DataType::Binary)]);
        WriterSchema { form: Form::Raw("recursive".into()), name: of.name.clone(), ..Arc::try_unwrap(of).expect("only one") }
    };
    assert_eq!(table(&routes, &raw("raw.alert")), "alerts_raw");
    assert_eq!(table(&routes, &raw("ztf.alert")), "alerts_raw");
    assert_eq!(table(&routes, &schema("ztf.alert", &[("a", F)])), "alerts");
    assert_eq!(table(&routes, &schema("raw.alert", &[("a", F)])), "alerts_raw_2");
}

#[test]
fn a_restart_decides_what_was_stored_and_nothing_else() {
    let (routes, mut state) = (none(), State::default());
    let lsst = schema("lsst.alert", &[("id", DataType::Int64)]);
    table(&routes, &ztf(true));
    table(&routes, &lsst);
    // Only the second one's files were committed.
    commit(&routes, &mut state, &["alerts_lsst", rejects::TABLE]);
    assert_eq!(state.routes.len(), 1);
    let again = Routes::new(&state).expect("its own state");
    assert_eq!(table(&again, &lsst), "alerts_lsst");
    assert_eq!(table(&again, &schema("tns.alert", &[("id", DataType::Int64)])), "alerts", "it is still free");
    assert_eq!(table(&again, &ztf(true)), "alerts_ztf");
    assert_eq!(again.schema(rejects::TABLE), Some(state.tables[rejects::TABLE].schema.clone()));
    let untouched = again.pending(&state, [&Arc::from("alerts_lsst")]);
    assert!(untouched.routes.is_empty() && untouched.schemas.is_empty(), "{untouched:?}");
}
