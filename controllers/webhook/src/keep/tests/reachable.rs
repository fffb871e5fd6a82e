//! What readiness and the metrics say of the certificate that is shown.

use prometheus::TextEncoder;

use super::*;
use crate::Reachable;

#[test]
fn readiness_names_what_keeps_the_webhook_from_serving() {
    let reachable = Reachable {
        secret: "mainstay/hook".into(),
        certificates: Certificates::default(),
        certificate_trouble: Trouble::default(),
        server_trouble: Trouble::default(),
    };
    let now = Timestamp::now();
    let said = || reachable.check(now).unwrap_err();
    assert_eq!(
        said(),
        "the webhook cannot use the certificate of the Secret mainstay/hook: there is none yet"
    );
    *reachable.certificate_trouble.write() = Some("secrets is forbidden".to_owned());
    assert!(said().ends_with("secrets is forbidden"));
    *reachable.server_trouble.write() = Some("it cannot listen".to_owned());
    assert_eq!(said(), "the webhook serves no requests: it cannot listen");
    *reachable.server_trouble.write() = None;
    reachable.certificates.show(Kept::read(&secret()).certified().unwrap());
    assert_eq!(reachable.check(now), Ok(()), "later trouble is in the log: the certificate in use stays");
    let end = now + Duration::from_secs(92 * 24 * 3600);
    let said = reachable.check(end).unwrap_err();
    assert!(said.contains("expired at ") && said.ends_with("secrets is forbidden"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_certificate_that_is_shown_is_measured() {
    let (server, registry) = (Server::default(), Registry::new());
    let mut keeper = Keeper { metrics: Metrics::new(&registry, "/pods"), ..server.keeper() };
    let measured = || {
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        ["not_before", "not_after"].map(|end| {
            let series =
                format!("mainstay_webhook_certificate_{end}_timestamp_seconds{{webhook=\"/pods\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series)).expect("it is there");
            value.parse::<i64>().expect("whole seconds")
        })
    };
    assert_eq!(measured(), [0, 0]);
    server.shows(&mut keeper, &secret()).await.unwrap();
    let (now, day) = (Timestamp::now().as_second(), 24 * 3600);
    let [begins, ends] = measured();
    // To the day: a day before, and 90 after.
    assert!(
        (now - 2 * day..=now - day).contains(&begins) && (now + 89 * day..=now + 90 * day).contains(&ends)
    );
}
