//! JSON bodies, read with the same limits as forms. Unlike the usual reading it refuses repeated keys, of which one
//! parser takes the first and another the last (RFC 8259, section 4).

use super::JSON_DEPTH_MAX;
use super::PARAMETERS_MAX;
use super::ParameterError;
use super::check_name;
use super::check_text;
use super::shown;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Number;
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;

/// How many values a body may have in all: each may be a parameter with an object and an array around it.
const VALUES_MAX: usize = 4 * PARAMETERS_MAX;

/// What is known while a body is read.
struct Reading {
    line_breaks_are_accepted: bool,
    values: usize,
    /// The reason for stopping. It goes beside the error of serde, which carries text only.
    fault: Option<ParameterError>,
}

/// Reads one value at a depth.
#[derive(Clone, Copy)]
struct Strict<'a> {
    reading: &'a RefCell<Reading>,
    depth: usize,
    /// The nearest key above, for errors.
    key: &'a str,
}

/// Reads a body that must be one JSON object with nothing after it.
pub(super) fn parse(body: &[u8], line_breaks_are_accepted: bool) -> Result<Value, ParameterError> {
    let reading = RefCell::new(Reading {
        line_breaks_are_accepted,
        values: 0,
        fault: None,
    });
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let root = Strict {
        reading: &reading,
        depth: 0,
        key: "",
    };
    let value = root
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(ParameterError::Json),
        Err(_) => Err(reading.into_inner().fault.unwrap_or(ParameterError::Json)),
    }
}

impl Strict<'_> {
    fn stop<E: Error>(&self, fault: ParameterError) -> E {
        self.reading.borrow_mut().fault = Some(fault);
        E::custom("refused")
    }

    fn text<E: Error>(&self, text: &str) -> Result<Value, E> {
        let line_breaks_are_accepted = self.reading.borrow().line_breaks_are_accepted;
        check_text(self.key, text, line_breaks_are_accepted).map_err(|fault| self.stop(fault))?;
        Ok(Value::String(text.to_owned()))
    }

    fn deeper<E: Error>(&self) -> Result<usize, E> {
        if self.depth >= JSON_DEPTH_MAX {
            return Err(self.stop(ParameterError::JsonDepth));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let too_many = {
            let mut reading = self.reading.borrow_mut();
            reading.values += 1;
            reading.values > VALUES_MAX
        };
        if too_many {
            return Err(self.stop(ParameterError::TooMany));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| self.stop(ParameterError::Json))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Strict { depth, ..self })? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            check_name(&key).map_err(|fault| self.stop(fault))?;
            if object.contains_key(&key) {
                return Err(self.stop(ParameterError::Repeated(shown(&key))));
            }
            if object.len() >= PARAMETERS_MAX {
                return Err(self.stop(ParameterError::TooMany));
            }
            let value = members.next_value_seed(Strict {
                reading: self.reading,
                depth,
                key: &key,
            })?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
