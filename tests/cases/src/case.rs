//! Changes of one field of an object, and of two.

use serde_json::Value;

use crate::{
    admitted::{admitted, sparse},
    refused::refused,
    walk::{KEY, required, walk, within},
};

/// An object with one field changed, or two.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is changed.
    changes: Vec<Change>,
    /// What the change is: `spec.replicas = 3`.
    pub what: String,
    /// Of these fields a refusal has to name one: the one that is wrong, or where only a rule across fields can refuse
    /// it, any that it lies in.
    pub fields: Vec<String>,
    /// Whether the schema refuses the object. What it admits may yet be refused by a rule.
    pub refused: bool,
}

/// A field and its value.
#[derive(Clone, Debug)]
struct Change {
    /// Where, as a JSON pointer.
    path: String,
    /// What; `None` takes the field away.
    value: Option<Value>,
    /// What has to be there, from the outside to the inside, for the field to be.
    around: Vec<(String, Value)>,
}

impl Change {
    /// Makes the change, unless another one has taken away what it lies in, or made it something else.
    fn make(&self, object: &mut Value) {
        let changes = self.around.iter().map(|(path, value)| (path, Some(value.clone()), false));
        for (path, value, replace) in changes.chain([(&self.path, self.value.clone(), true)]) {
            if !put(object, path, value, replace) {
                return;
            }
        }
    }
}

/// Sets, adds or removes what is at `path`. Returns whether its surroundings are there.
fn put(object: &mut Value, path: &str, value: Option<Value>, replace: bool) -> bool {
    let (outer, step) = path.rsplit_once('/').unwrap_or_else(|| panic!("{path:?} is no path of a field"));
    match (object.pointer_mut(outer), value) {
        (Some(Value::Array(items)), Some(value)) if items.is_empty() => items.push(value),
        (Some(Value::Array(items)), Some(value)) if replace => items[0] = value,
        (Some(Value::Object(fields)), Some(value)) if replace => drop(fields.insert(step.to_owned(), value)),
        (Some(Value::Object(fields)), Some(value)) => drop(fields.entry(step).or_insert(value)),
        (Some(Value::Object(fields)), None) => drop(fields.remove(step)),
        (Some(Value::Array(_)), _) => {}
        _ => return false,
    }
    true
}

impl Case {
    fn new(change: Change, what: String, fields: Vec<String>, refused: bool) -> Self {
        Self { changes: vec![change], what, fields, refused }
    }

    /// The changes of both, one after the other. Of a rule that the two break together, either may be to blame.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            changes: [&*self.changes, &other.changes].concat(),
            what: format!("{} and {}", self.what, other.what),
            fields: [&*self.fields, &other.fields].concat(),
            refused: false,
        }
    }

    /// Where the first change is made, as a JSON pointer.
    pub fn path(&self) -> &str {
        &self.changes[0].path
    }

    /// Whether a change is made at this path or below it.
    pub fn is_below(&self, path: &str) -> bool {
        let is_below = |change: &Change| {
            change.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.changes.iter().any(is_below)
    }

    /// `object` with the changes.
    pub fn of(&self, object: &Value) -> Value {
        let mut changed = object.clone();
        self.changes.iter().for_each(|change| change.make(&mut changed));
        changed
    }

    /// Whether a refusal names the field.
    pub fn is_named_by(&self, refusal: &str) -> bool {
        self.fields.iter().any(|field| refusal.contains(field))
    }
}

/// The names of the fields of a path, without keys and places, from the inside to the outside. That the spec is wrong says
/// nothing of a field in it.
fn fields_of(path: &str) -> Vec<String> {
    let is_name = |step: &&str| !["", "0", KEY].contains(step) && (*step != "spec" || path == "/spec");
    path.rsplit('/').filter(is_name).map(str::to_owned).collect()
}

/// A value in a sentence, which may be too long for one.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST {
        return text;
    }
    format!("{}… ({} bytes)", text.chars().take(MOST).collect::<String>(), text.len())
}

/// All changes of one field below `path`. What of the surroundings of a field an object lacks is added.
///
/// # Panics
/// When the schema has nothing at `path`.
pub fn cases(schema: &Value, path: &str) -> Vec<Case> {
    let steps = |path: &str| path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let root = steps(path).iter().try_fold(schema, |schema, step| within(schema, step));
    let root = root.unwrap_or_else(|| panic!("the schema has nothing at {path}"));
    let mut cases = Vec::new();
    walk(path, root, &mut |path, field| {
        let (around, outer) = surroundings(schema, &steps(path));
        let change = |value| Change { path: path.to_owned(), value, around: around.clone() };
        let names = fields_of(path);
        let dotted = path[1..].replace('/', ".");
        for wrong in refused(field) {
            let what = format!("{dotted}, {}: {}", wrong.what, shown(&wrong.value));
            let field = wrong.field.or_else(|| names.first().cloned());
            let fields = field.into_iter().collect();
            cases.push(Case::new(change(Some(wrong.value)), what, fields, true));
        }
        for value in admitted(field) {
            let what = format!("{dotted} = {}", shown(&value));
            cases.push(Case::new(change(Some(value)), what, names.clone(), false));
        }
        let step = path.rsplit('/').next().unwrap_or_default();
        if outer["properties"].get(step).is_some() && !required(outer).any(|name| name == step) {
            for (value, word) in [(None, "is not there"), (Some(Value::Null), "is null")] {
                let what = format!("{dotted} {word}");
                cases.push(Case::new(change(value), what, names.clone(), false));
            }
        }
    });
    cases
}

/// What has to be there for a field to be, and the schema of what it lies directly within.
fn surroundings<'a>(schema: &'a Value, steps: &[String]) -> (Vec<(String, Value)>, &'a Value) {
    let (mut path, mut schema) = (String::new(), schema);
    let mut around = Vec::new();
    for step in &steps[..steps.len().saturating_sub(1)] {
        schema = within(schema, step).expect("the walk has been there");
        path = format!("{path}/{step}");
        around.push((path.clone(), sparse(schema)));
    }
    (around, schema)
}
