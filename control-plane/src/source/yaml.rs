//! Parses YAML and JSON text into values, and says on which line each field stands. Behind one function, so that the
//! parser can be replaced; what the values mean is left to `read`.

use saphyr_parser::{Event, Parser};
use serde::Deserialize as _;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Longest file that is read.
pub const MAX_BYTES: usize = 16 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 100;
/// Most nodes after aliases are expanded, so that a few lines cannot fill the memory.
const MAX_NODES: u64 = 2_000_000;
/// Longest path of which the line is known, and bytes of all of them: a long key above many values cannot fill the memory.
const MAX_PATH: usize = 512;
const MAX_MARKED: usize = 64 << 20;

/// One document of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its value.
    pub value: Value,
    /// Its first line, 1-based.
    pub line: u32,
    /// Lines by path: `spec.http[0].route[1].weight`.
    pub lines: BTreeMap<String, u32>,
}

/// Why a text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// 1-based, 0 where unknown.
    pub line: u32,
    /// One sentence.
    pub message: String,
}

/// Parses every document of `text`. Empty documents are left out.
///
/// # Errors
/// The first thing that is not YAML, or a limit that is passed. One broken document breaks the whole file, since
/// nobody can tell where it ends.
pub fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError { line: 0, message: format!("the file has more than {MAX_BYTES} bytes") });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let marks = marks(text)?;
    let mut found = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = serde_yaml::Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        let value = value.map_err(|e| YamlError {
            line: e.location().map_or(0, |l| u32::try_from(l.line()).unwrap_or(0)),
            message: e.to_string(),
        })?;
        let (line, lines) = marks.get(index).cloned().unwrap_or_default();
        let value = to_json(value).map_err(|message| YamlError { line, message })?;
        if !value.is_null() {
            found.push(Document { value, line, lines });
        }
    }
    Ok(found)
}

fn to_json(value: serde_yaml::Value) -> Result<Value, String> {
    Ok(match value {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(b) => Value::Bool(b),
        serde_yaml::Value::Number(n) => Value::Number(match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => {
                let number = n.as_f64().unwrap_or(f64::NAN);
                Number::from_f64(number).ok_or_else(|| format!("the number {number} cannot be used"))?
            }
        }),
        serde_yaml::Value::String(s) => Value::String(s),
        serde_yaml::Value::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        serde_yaml::Value::Mapping(map) => {
            let mut object = Map::new();
            for (key, value) in map {
                let key = match key {
                    serde_yaml::Value::String(s) => s,
                    serde_yaml::Value::Number(n) => n.to_string(),
                    serde_yaml::Value::Bool(b) => b.to_string(),
                    _ => return Err("the key of a mapping must be a text".to_owned()),
                };
                let shown = key.escape_debug().to_string();
                if object.insert(key, to_json(value)?).is_some() {
                    return Err(format!("the key `{shown}` stands twice in one mapping"));
                }
            }
            Value::Object(object)
        }
        serde_yaml::Value::Tagged(tagged) => return Err(format!("the tag {} is not known", tagged.tag)),
    })
}

type Marks = Vec<(u32, BTreeMap<String, u32>)>;

/// Where the fields of each document stand. Also enforces the limits, before anything is expanded.
fn marks(text: &str) -> Result<Marks, YamlError> {
    let mut walk = Walk::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| YamlError {
            line: u32::try_from(e.marker().line()).unwrap_or(0),
            message: e.info().to_owned(),
        })?;
        let line = u32::try_from(span.start.line()).unwrap_or(0);
        walk.event(&event, line).map_err(|message| YamlError { line, message })?;
    }
    Ok(walk.documents)
}

#[derive(Default)]
struct Walk {
    documents: Marks,
    stack: Vec<Frame>,
    nodes: u64,
    /// Bytes of the paths whose lines are known.
    marked: usize,
    /// Expanded size of each anchored node.
    anchors: BTreeMap<usize, u64>,
}

struct Frame {
    /// None: too long, so nothing below it is marked.
    path: Option<String>,
    kind: Container,
    anchor: usize,
    /// Nodes counted before this one began.
    before: u64,
}

enum Container {
    Sequence(usize),
    /// The key whose value comes next.
    Mapping(Option<String>),
}

impl Walk {
    fn event(&mut self, event: &Event<'_>, line: u32) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                self.stack.clear();
                self.anchors.clear();
                self.documents.push((0, BTreeMap::new()));
            }
            Event::Scalar(text, _, anchor, _) => {
                self.anchors.insert(*anchor, 1);
                self.count(1)?;
                if let Some(Frame { kind: Container::Mapping(key @ None), path, .. }) = self.stack.last_mut() {
                    let field = path.as_deref().and_then(|path| join(path, text));
                    *key = Some(text.to_string());
                    self.mark(field.as_deref(), line);
                } else {
                    self.enter(line);
                }
            }
            Event::Alias(anchor) => {
                self.count(self.anchors.get(anchor).copied().unwrap_or(1))?;
                if let Some(Frame { kind: Container::Mapping(key @ None), .. }) = self.stack.last_mut() {
                    *key = Some(String::new());
                } else {
                    self.enter(line);
                }
            }
            Event::SequenceStart(anchor, _) => self.open(*anchor, Container::Sequence(0), line)?,
            Event::MappingStart(anchor, _) => self.open(*anchor, Container::Mapping(None), line)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.stack.pop() {
                    self.anchors.insert(frame.anchor, self.nodes - frame.before);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, kind: Container, line: u32) -> Result<(), String> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(format!("the nesting is deeper than {MAX_DEPTH} levels"));
        }
        let before = self.nodes;
        self.count(1)?;
        let path = self.enter(line);
        self.stack.push(Frame { path, kind, anchor, before });
        Ok(())
    }

    /// Path of the value that begins here; makes the container expect what comes after it.
    fn enter(&mut self, line: u32) -> Option<String> {
        let path = match self.stack.last_mut() {
            None => Some(String::new()),
            Some(Frame { kind: Container::Sequence(index), path, .. }) => {
                *index += 1;
                path.as_ref().map(|path| format!("{path}[{}]", *index - 1))
            }
            Some(Frame { kind: Container::Mapping(key), path, .. }) => {
                let key = key.take().unwrap_or_default();
                return path.as_deref().and_then(|path| join(path, &key));
            }
        };
        let path = path.filter(|path| path.len() <= MAX_PATH);
        self.mark(path.as_deref(), line);
        path
    }

    fn mark(&mut self, path: Option<&str>, line: u32) {
        let Some((first, lines)) = self.documents.last_mut() else { return };
        if *first == 0 {
            *first = line;
        }
        if let Some(path) = path.filter(|_| self.marked < MAX_MARKED) {
            self.marked += path.len();
            lines.entry(path.to_owned()).or_insert(line);
        }
    }

    fn count(&mut self, nodes: u64) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(format!("the file has more than {MAX_NODES} values once its aliases are expanded"));
        }
        Ok(())
    }
}

/// None where the path would be longer than anything that the API has.
fn join(path: &str, key: &str) -> Option<String> {
    match path.len() + key.len() {
        length if length > MAX_PATH => None,
        _ if path.is_empty() => Some(key.to_owned()),
        _ => Some(format!("{path}.{key}")),
    }
}

#[cfg(test)]
mod tests;
