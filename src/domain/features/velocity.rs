//! Counts, ratios and travel.

use crate::domain::history::FailureRatio;
use crate::domain::history::Profile;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;

/// Distances below this are within the error of address databases, in kilometres.
const TRAVEL_KM_MIN: f32 = 100.0;
/// Two logins closer in time than this count as this far apart, in hours: a shared second must not divide by zero.
const TRAVEL_HOURS_MIN: f32 = 1.0 / 60.0;

/// log(1 + count).
pub fn log_count(count: f32) -> f32 {
    count.max(0.0).ln_1p()
}

/// (failures + 0.3) / (attempts + 3) of one address: without history the ratio is 0.1.
pub fn failure_ratio(counts: FailureRatio) -> f32 {
    smoothed(counts, 3.0)
}

/// (failures + 2) / (attempts + 20) of a source that many people share: without history the ratio is 0.1 as well, but it
/// takes more than a neighbour's mistyped password to move it.
pub fn shared_failure_ratio(counts: FailureRatio) -> f32 {
    smoothed(counts, 20.0)
}

fn smoothed(counts: FailureRatio, prior: f32) -> f32 {
    let failures = counts.failures.max(0.0);
    (failures + 0.1 * prior) / (counts.attempts.max(failures) + prior)
}

/// log(1 + km) from the nearest known place.
pub fn nearest_place(profile: &Profile, here: Coordinates) -> Option<f32> {
    profile
        .places
        .iter()
        .map(|place| place.coordinates.distance_km(here))
        .min_by(f32::total_cmp)
        .map(f32::ln_1p)
}

/// log(1 + km/h) since the last confirmed login; 0 for distances that address databases cannot tell. A clock that went
/// backwards counts as no time at all only when the distance is real: it is cut to one minute.
pub fn travel_speed(profile: &Profile, here: Coordinates, now: Timestamp) -> Option<f32> {
    speed(profile.last_coordinates?, profile.last, here, now)
}

/// The same from a place where the subject was at `since`.
pub fn speed(
    from: Coordinates,
    since: Timestamp,
    here: Coordinates,
    now: Timestamp,
) -> Option<f32> {
    let km = from.distance_km(here);
    if km <= TRAVEL_KM_MIN {
        return Some(0.0);
    }
    // A step back of the clock would make every journey impossible: then nothing is said.
    if now < since {
        return None;
    }
    let hours = (now.since(since).as_secs_f32() / 3600.0).max(TRAVEL_HOURS_MIN);
    Some((km / hours).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_oslo(at: i64) -> Profile {
        Profile {
            last: Timestamp(at),
            last_coordinates: Coordinates::new(59.9, 10.75),
            successes: 1,
            ..Profile::default()
        }
    }

    #[test]
    fn ratios_start_at_a_tenth() {
        assert!((failure_ratio(FailureRatio::default()) - 0.1).abs() < 1e-6);
        assert!((shared_failure_ratio(FailureRatio::default()) - 0.1).abs() < 1e-6);
        let one = FailureRatio {
            failures: 1.0,
            attempts: 1.0,
        };
        assert!(failure_ratio(one) > 0.3 && shared_failure_ratio(one) < 0.15);
        assert!(
            failure_ratio(FailureRatio {
                failures: 100.0,
                attempts: 100.0
            }) > 0.9
        );
        assert!(
            failure_ratio(FailureRatio {
                failures: 5.0,
                attempts: 0.0
            }) <= 1.0
        );
    }

    #[test]
    fn oslo_to_sydney_in_an_hour_is_impossible() {
        let sydney = Coordinates::new(-33.87, 151.2).unwrap();
        let speed = travel_speed(&from_oslo(0), sydney, Timestamp(3_600_000)).unwrap();
        assert!(speed > 1_000.0_f32.ln());
        let slow = travel_speed(&from_oslo(0), sydney, Timestamp(48 * 3_600_000)).unwrap();
        assert!(slow < 400.0_f32.ln());
    }

    #[test]
    fn a_backward_clock_is_no_journey() {
        let sydney = Coordinates::new(-33.87, 151.2).unwrap();
        assert_eq!(
            travel_speed(&from_oslo(3_600_000), sydney, Timestamp(0)),
            None
        );
    }

    #[test]
    fn a_suburb_is_no_journey() {
        let suburb = Coordinates::new(60.2, 11.0).unwrap();
        assert_eq!(travel_speed(&from_oslo(0), suburb, Timestamp(1)), Some(0.0));
    }
}
