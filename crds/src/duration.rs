//! Durations as people write them.

use std::{borrow::Cow, fmt, str::FromStr, time};

use kube::core::Duration as GoDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The most digits of a number in a duration. What is admitted then ends before 2562047h, where Go's durations do, so
/// that neither CEL nor [`GoDuration`] gets a duration that it cannot represent: the latter panics.
const MAX_DIGITS: usize = 6;

/// The most hours that [`MAX_DIGITS`] hold.
const MOST_HOURS: u128 = 999_999;

/// The time that a field says in whole seconds; less than none is none.
pub fn seconds(number: i32) -> time::Duration {
    time::Duration::from_secs(number.try_into().unwrap_or_default())
}

/// A duration as `metav1.Duration` reads it, but not negative, in no unit below a millisecond, and in numbers of at most
/// six digits; written in the largest units, as `90s` would be `1m30s`, and so that it is read as the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(time::Duration);

impl Duration {
    /// A number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// A number of milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        let fraction = self.0.subsec_nanos() % 1_000_000;
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        while left >= MOST_HOURS * 3_600_000 {
            write!(f, "{MOST_HOURS}h")?;
            left -= MOST_HOURS * 3_600_000;
        }
        for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if left >= millis {
                write!(f, "{}{unit}", left / millis)?;
                left %= millis;
            }
        }
        match (left, fraction) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, "{left}ms"),
            _ => write!(f, "{left}.{}ms", format!("{fraction:06}").trim_end_matches('0')),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.split(|character: char| !character.is_ascii_digit()).any(|digits| digits.len() > MAX_DIGITS) {
            return Err(D::Error::custom(format!(
                "{text:?} has a number of more than {MAX_DIGITS} digits; write it in a larger unit"
            )));
        }
        let duration = GoDuration::from_str(&text).map_err(D::Error::custom)?;
        if duration.is_negative() {
            return Err(D::Error::custom(format!("{text:?} is negative")));
        }
        Ok(Self(duration.into()))
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 20,
            "pattern": format!("^([0-9]{{1,{MAX_DIGITS}}}(\\.[0-9]{{1,{MAX_DIGITS}}})?(ms|s|m|h))+$"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_any_unit_and_written_in_the_largest() {
        for (text, written) in [
            ("0s", "0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m"),
            ("300s", "5m"),
            ("1500ms", "1s500ms"),
            ("0.000001ms", "0.000001ms"),
            ("1.5005s", "1s500.5ms"),
            ("999999h999999h99999h", "999999h999999h99999h"),
        ] {
            let duration: Duration = serde_json::from_value(text.into()).unwrap();
            assert_eq!(duration.to_string(), written);
            assert_eq!(serde_json::from_value::<Duration>(written.into()).unwrap(), duration);
        }
        for wrong in ["-1s", "5", "5 s", "soon"] {
            assert!(serde_json::from_value::<Duration>(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_that_nothing_can_hold_is_refused_and_does_not_panic() {
        for wrong in ["9999999999999999999h", "1000000h", "0.0000001s"] {
            let error = serde_json::from_value::<Duration>(wrong.into()).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("more than 6 digits"), "{error}");
        }
        let longest: Duration = serde_json::from_value("999999h999999h99999h".into()).unwrap();
        assert!(longest < Duration::seconds(2_562_047 * 3600), "{longest}");
    }
}
