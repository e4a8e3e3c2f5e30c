//! A schema registry that speaks Confluent's protocol, and a folder of schemas: two places to look schemas up by id.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde_json::Value;

use crate::kafka::{ConfigError, Secret};
use crate::schemas::{Found, Lookup};

/// A schema registry.
pub struct Registry {
    client: Client,
    url: String,
    login: Option<(String, String)>,
}

/// Why a place to look schemas up in can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The password can't be had.
    #[error("the registry's password can't be had")]
    Secret(#[from] ConfigError),
    /// No client can be made.
    #[error("no client for the schema registry")]
    Client(#[from] reqwest::Error),
    /// The folder can't be read.
    #[error("schemas can't be read in {0}")]
    Folder(PathBuf, #[source] std::io::Error),
    /// A file is no schema.
    #[error("{0} is not JSON")]
    Json(PathBuf, #[source] serde_json::Error),
}

/// How long the registry may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Registry {
    /// The registry at `url` (such as `http://host:8081`), with a name and password where it asks for them.
    ///
    /// # Errors
    /// When the password can't be had.
    pub fn new(url: &str, login: Option<(String, Secret)>) -> Result<Self, RegistryError> {
        let login = login.map(|(name, password)| Ok::<_, ConfigError>((name, password.reveal()?))).transpose()?;
        let client = Client::builder().timeout(PATIENCE).connect_timeout(PATIENCE).build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), login })
    }

    fn get(&self, path: &str) -> Result<Option<Value>, String> {
        let mut request = self.client.get(format!("{}{path}", self.url)).header("accept", "application/vnd.schemaregistry.v1+json");
        if let Some((name, password)) = &self.login {
            request = request.basic_auth(name, Some(password));
        }
        // The address may hold a password: it is not shown.
        let away = |error: reqwest::Error| format!("schema registry can't be reached: {}", cause(&error.without_url()));
        let response = request.send().map_err(away)?;
        match response.status() {
            StatusCode::OK => {
                let text = response.text().map_err(away)?;
                serde_json::from_str(&text).map(Some).map_err(|error| format!("schema registry answers no JSON: {error}"))
            }
            // 404 of a registry says `error_code`; that of any other server says nothing of schemas.
            StatusCode::NOT_FOUND => {
                let denial: Option<Value> = response.text().ok().and_then(|text| serde_json::from_str(&text).ok());
                match denial.as_ref().and_then(|json| json.get("error_code")) {
                    Some(_) => Ok(None),
                    None => Err("schema registry has no such page: is its address right?".into()),
                }
            }
            status => Err(format!("schema registry answers {status}")),
        }
    }

    /// The schema of `id`, with the schemas that it refers to put in their places.
    fn schema(&self, id: u32) -> Result<Option<String>, String> {
        let Some(answer) = self.get(&format!("/schemas/ids/{id}"))? else { return Ok(None) };
        if let Some(kind) = answer.get("schemaType").and_then(Value::as_str).filter(|kind| *kind != "AVRO") {
            return Err(format!("schema {id} is {kind}, not Avro"));
        }
        let Some(text) = answer.get("schema").and_then(Value::as_str) else {
            return Err(format!("schema registry answers no schema for id {id}"));
        };
        let mut named = BTreeMap::new();
        self.references(&answer, &mut named, 0)?;
        if named.is_empty() {
            return Ok(Some(text.to_owned()));
        }
        let root = serde_json::from_str(text).map_err(|error| format!("schema {id} is not JSON: {error}"))?;
        Ok(Some(inline(root, &named).to_string()))
    }

    fn references(&self, answer: &Value, named: &mut BTreeMap<String, Value>, depth: u32) -> Result<(), String> {
        if depth > 16 {
            return Err("schemas refer to one another too deeply".into());
        }
        for reference in answer.get("references").and_then(Value::as_array).into_iter().flatten() {
            let (Some(subject), Some(version)) =
                (reference.get("subject").and_then(Value::as_str), reference.get("version").and_then(Value::as_i64))
            else {
                continue;
            };
            let subject: String = url::form_urlencoded::byte_serialize(subject.as_bytes()).collect();
            let inner = self
                .get(&format!("/subjects/{subject}/versions/{version}"))?
                .ok_or_else(|| format!("schema registry lacks {subject} version {version}"))?;
            self.references(&inner, named, depth + 1)?;
            let text = inner.get("schema").and_then(Value::as_str).unwrap_or_default();
            add_named(named, serde_json::from_str(text).map_err(|error| format!("schema {subject} is not JSON: {error}"))?);
        }
        Ok(())
    }
}

impl Registry {
    /// Enters an Avro schema under `subject`, if it is not there already, and returns its id.
    ///
    /// # Errors
    /// Why the registry does not take it, for a person.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, String> {
        let subject: String = url::form_urlencoded::byte_serialize(subject.as_bytes()).collect();
        let body = serde_json::json!({ "schema": schema }).to_string();
        let mut request = self.client.post(format!("{}/subjects/{subject}/versions", self.url)).body(body);
        request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
        if let Some((name, password)) = &self.login {
            request = request.basic_auth(name, Some(password));
        }
        let away = |error: reqwest::Error| format!("schema registry can't be reached: {}", cause(&error.without_url()));
        let response = request.send().map_err(away)?;
        let (status, text) = (response.status(), response.text().map_err(away)?);
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.filter(|_| status.is_success()).ok_or_else(|| format!("schema registry answers {status} to the schema of {subject}"))
    }
}

impl Lookup for Registry {
    fn find(&mut self, id: u32) -> Found {
        match self.schema(id) {
            Ok(Some(json)) => Found::Schema(json),
            Ok(None) => Found::Denied,
            Err(reason) => Found::Failed(reason),
        }
    }
}

fn cause(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A folder of schemas by id: `<id>.avsc`, or `<id>/` with a schema split over files (as LSST's are), whose names are the
/// full names of what they define and one of which nobody refers to. Or LSST's own: `<major>/<minor>/` holds the files of
/// the id `100 * major + minor`, such as `11/0/` those of 1100.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        std::fs::read_dir(path).map_err(|error| RegistryError::Folder(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Lookup for Folder {
    fn find(&mut self, id: u32) -> Found {
        let file = self.path.join(format!("{id}.avsc"));
        let folders = [self.path.join(id.to_string()), self.path.join((id / 100).to_string()).join((id % 100).to_string())];
        let found = if file.is_file() {
            std::fs::read_to_string(&file).map_err(|error| RegistryError::Folder(file, error))
        } else if let Some(folder) = folders.iter().find(|folder| holds_schemas(folder)) {
            split_schema(folder)
        } else {
            return Found::Denied;
        };
        match found {
            Ok(json) => Found::Schema(json),
            Err(error) => Found::Failed(error.to_string()),
        }
    }
}

/// Whether a folder holds `.avsc` files itself: `11/` of `11/0/` does not, and is no schema of the id 11.
fn holds_schemas(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| file.path()).any(|path| path.extension().is_some_and(|extension| extension == "avsc"))
}

/// A schema that is split over the `.avsc` files of a folder, as one: the one that no other refers to, with the others put in
/// where they are first named.
///
/// # Errors
/// When a file can't be read, or is not JSON.
pub fn split_schema(folder: &Path) -> Result<String, RegistryError> {
    let unreadable = |error| RegistryError::Folder(folder.to_owned(), error);
    let mut named = BTreeMap::new();
    let mut last = Value::Null;
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "avsc") {
            let text = std::fs::read_to_string(&path).map_err(unreadable)?;
            last = serde_json::from_str(&text).map_err(|error| RegistryError::Json(path, error))?;
            add_named(&mut named, last.clone());
        }
    }
    let mut referred = BTreeSet::new();
    for (name, schema) in &named {
        let mut names = BTreeSet::new();
        collect_names(schema, namespace(name), &mut names);
        names.remove(name);
        referred.extend(names);
    }
    let root = named.iter().find(|(name, _)| !referred.contains(*name)).map_or(last, |(_, schema)| schema.clone());
    Ok(inline(root, &named).to_string())
}

fn namespace(full_name: &str) -> &str {
    full_name.rsplit_once('.').map_or("", |(namespace, _)| namespace)
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn name_of(schema: &Value, enclosing: &str) -> Option<String> {
    let name = schema.get("name")?.as_str()?;
    Some(full_name(name, schema.get("namespace").and_then(Value::as_str).unwrap_or(enclosing)))
}

fn add_named(named: &mut BTreeMap<String, Value>, schema: Value) {
    if let Some(name) = name_of(&schema, "") {
        named.insert(name, schema);
    }
}

/// The places in a schema where another stands, or its name.
fn places(schema: &mut Value) -> Vec<&mut Value> {
    match schema {
        Value::Array(branches) => branches.iter_mut().collect(),
        Value::Object(object) => {
            let mut found = Vec::new();
            for (key, value) in object.iter_mut() {
                match (key.as_str(), value) {
                    ("type" | "items" | "values", value) => found.push(value),
                    ("fields", Value::Array(fields)) => found.extend(fields.iter_mut().filter_map(|field| field.get_mut("type"))),
                    _ => {}
                }
            }
            found
        }
        _ => Vec::new(),
    }
}

fn collect_names(schema: &Value, enclosing: &str, names: &mut BTreeSet<String>) {
    let mut copy = schema.clone();
    let within = name_of(schema, enclosing).map_or_else(|| enclosing.to_owned(), |name| namespace(&name).to_owned());
    if let Value::String(name) = &copy {
        names.insert(full_name(name, &within));
    }
    places(&mut copy).into_iter().for_each(|place| collect_names(place, &within, names));
}

/// Puts named schemas in where they are first named.
fn inline(mut root: Value, named: &BTreeMap<String, Value>) -> Value {
    fn walk(schema: &mut Value, enclosing: &str, named: &BTreeMap<String, Value>, defined: &mut BTreeSet<String>) {
        if let Value::String(name) = schema {
            let name = full_name(name, enclosing);
            match named.get(&name) {
                Some(definition) if !defined.contains(&name) => *schema = definition.clone(),
                _ => return,
            }
        }
        let name = name_of(schema, enclosing);
        let within = name.as_ref().map_or_else(|| enclosing.to_owned(), |name| namespace(name).to_owned());
        defined.extend(name);
        places(schema).into_iter().for_each(|place| walk(place, &within, named, defined));
    }
    walk(&mut root, "", named, &mut BTreeSet::new());
    root
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A registry that answers these, in turn, and returns what it was asked.
    fn serve(answers: Vec<(u16, &'static str)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().expect("connection");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("request");
                    request.push(byte[0]);
                }
                asked.push(String::from_utf8_lossy(&request).into_owned());
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").expect("answer");
            }
            asked
        });
        (url, server)
    }

    #[test]
    fn tells_known_denied_and_failed_apart() {
        let (url, server) = serve(vec![
            (200, r#"{"schema":"\"int\""}"#),
            (404, r#"{"error_code":40403,"message":"Schema not found"}"#),
            (404, "<html>"),
            (503, "busy"),
            (200, r#"{"schemaType":"JSON","schema":"{}"}"#),
        ]);
        let folder = tempfile::tempdir().expect("folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter2").expect("write");
        let mut registry = Registry::new(&url, Some(("me".into(), Secret::File(secret)))).expect("registry");
        assert_eq!(registry.find(7), Found::Schema("\"int\"".into()));
        assert_eq!(registry.find(8), Found::Denied);
        for _ in 0..3 {
            assert!(matches!(registry.find(9), Found::Failed(_)));
        }
        let asked = server.join().expect("server");
        assert!(asked[0].starts_with("GET /schemas/ids/7 ") && asked[0].contains("Basic bWU6aHVudGVyMg=="));
        // Nobody listens there any more.
        assert!(matches!(registry.find(7), Found::Failed(_)));
    }

    #[test]
    fn puts_references_in_their_places() {
        let (url, server) = serve(vec![
            (
                200,
                r#"{"schema":"{\"type\":\"record\",\"name\":\"a.Alert\",\"fields\":[{\"name\":\"s\",\"type\":\"a.Source\"},{\"name\":\"p\",\"type\":[\"null\",{\"type\":\"array\",\"items\":\"Source\"}]}]}",
                   "references":[{"name":"a.Source","subject":"a/Source","version":3}]}"#,
            ),
            (200, r#"{"schema":"{\"type\":\"record\",\"name\":\"Source\",\"namespace\":\"a\",\"fields\":[]}"}"#),
        ]);
        let Found::Schema(json) = Registry::new(&url, None).expect("registry").find(1) else { panic!("no schema") };
        let schema: Value = serde_json::from_str(&json).expect("json");
        assert_eq!(schema["fields"][0]["type"]["name"], "Source");
        assert_eq!(schema["fields"][1]["type"][1]["items"], "Source");
        assert!(server.join().expect("server")[1].starts_with("GET /subjects/a%2FSource/versions/3 "));
    }

    #[test]
    fn a_folder_holds_schemas_whole_and_split() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("3.avsc"), "\"int\"").expect("write");
        std::fs::create_dir(folder.path().join("703")).expect("folder");
        let parts = [
            (
                "x.alert.avsc",
                r#"{"type":"record","name":"x.alert","fields":[{"name":"o","type":["null","x.obj"]},{"name":"s","type":"src"}]}"#,
            ),
            ("x.obj.avsc", r#"{"type":"record","name":"obj","namespace":"x","fields":[{"name":"s","type":"src"}]}"#),
            ("x.src.avsc", r#"{"type":"record","name":"src","namespace":"x","fields":[]}"#),
        ];
        for (name, text) in parts {
            std::fs::write(folder.path().join("703").join(name), text).expect("write");
        }
        let mut lookup = Folder::open(folder.path()).expect("folder");
        assert_eq!(lookup.find(3), Found::Schema("\"int\"".into()));
        assert_eq!(lookup.find(4), Found::Denied);
        let Found::Schema(json) = lookup.find(703) else { panic!("no schema") };
        let schema: Value = serde_json::from_str(&json).expect("json");
        assert_eq!(schema["fields"][0]["type"][1]["fields"][0]["type"]["name"], "src");
        assert_eq!(schema["fields"][1]["type"], "src");
    }

    #[test]
    fn a_folder_may_be_laid_out_as_lsst_has_it() {
        let given = std::env::var_os("FINK_SHARED").map(PathBuf::from);
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(2).map(|above| above.join("shared"));
        let folder = given.into_iter().chain(above).map(|shared| shared.join("data/lsst/schemas")).find(|folder| folder.is_dir());
        let Some(folder) = folder else {
            println!("skipped: no schemas of LSST here (set FINK_SHARED to the folder that holds data/)");
            return;
        };
        let mut lookup = Folder::open(&folder).expect("folder");
        let Found::Schema(json) = lookup.find(1100) else { panic!("no schema 1100") };
        let schema: Value = serde_json::from_str(&json).expect("json");
        assert_eq!((schema["namespace"].as_str(), schema["name"].as_str()), (Some("lsst.v11_0"), Some("alert")));
        let field = |name: &str| schema["fields"].as_array().expect("fields").iter().find(|field| field["name"] == name).cloned();
        assert_eq!(field("diaSource").expect("a field")["type"]["name"], "diaSource");
        // `11/` is a folder of versions, `11/1/` is not there.
        assert_eq!((lookup.find(11), lookup.find(1101)), (Found::Denied, Found::Denied));
    }
}
