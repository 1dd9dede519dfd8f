use super::*;

#[test]
fn the_sample_has_every_key_and_the_defaults() {
    let sample = include_str!("../../../deploy/overlapd.toml");
    let config = Config::parse(sample, "deploy/overlapd.toml").unwrap();
    // What is not commented out is the default.
    let mut defaults = Config::new("Acme");
    defaults.exchange.endpoint = Some("overlap.acme.example:7650".to_owned());
    assert_eq!(config, defaults);
    // Every key that exists is in the sample, commented out or not.
    let mut all = Config::new("Acme");
    all.default_region = Some("US".to_owned());
    all.key_file = Some("x".into());
    all.exchange.endpoint = Some("h:1".to_owned());
    all.api.tls_certificate_file = Some("x".into());
    all.api.tls_key_file = Some("x".into());
    for line in all.to_toml().unwrap().lines() {
        if let Some((key, _)) = line.split_once(" = ") {
            assert!(
                sample.lines().any(|line| line
                    .trim_start_matches(['#', ' '])
                    .starts_with(&format!("{key} = "))),
                "{key} is not in the sample"
            );
        }
    }
}

#[test]
fn the_configuration_for_kubernetes_parses() {
    let manifest = include_str!("../../../deploy/kubernetes.yaml");
    let (_, block) = manifest.split_once("  overlapd.toml: |\n").unwrap();
    let (block, _) = block.split_once("---\n").unwrap();
    let text: String = block
        .lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    let config = Config::parse(&text, "deploy/kubernetes.yaml").unwrap();
    assert!(config.api.tls_certificate_file.is_some() && config.key_file.is_some());
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn defaults_survive_a_round_trip() {
    let config = Config::new("Acme");
    assert_eq!(
        Config::parse(&config.to_toml().unwrap(), "f").unwrap(),
        config
    );
}

#[test]
fn faults_are_located() {
    for (text, expected) in [
        ("", "f:1:1: missing field `organization`"),
        (
            "organization = \"A\"\nport = 1\n",
            "f:2:1: unknown field `port`",
        ),
        (
            "organization = \"A\"\n[limits]\ncall_timeout = \"soon\"\n",
            "f:3:16: \"soon\" is not a duration",
        ),
        (
            "organization = \" \"\n",
            "f: organization must not be empty",
        ),
        (
            "organization = \"A\"\n[api]\nlisten = \"0.0.0.0:1\"\n",
            "f: api.listen 0.0.0.0:1 is not a loopback address and has no TLS",
        ),
        (
            "organization = \"A\"\nbackend = \"gpu\"\n",
            "f: backend \"gpu\" is not one",
        ),
        (
            "organization = \"A\"\n[exchange]\nendpoint = \"nowhere\"\n",
            "f: exchange.endpoint \"nowhere\" is not host:port",
        ),
        (
            "organization = \"A\"\n[limits]\nmax_request_bytes = 524287\n",
            "f: limits.max_request_bytes must be between 524288 and 268435456",
        ),
        (
            "organization = \"A\"\ndefault_region = \"XX\"\n",
            "f: default_region \"XX\"",
        ),
    ] {
        let error = Config::parse(text, "f").unwrap_err();
        assert_eq!(error.reason(), Reason::ConfigInvalid);
        assert!(error.message().starts_with(expected), "{error}");
    }
    let plaintext =
        "organization = \"A\"\n[api]\nlisten = \"0.0.0.0:1\"\ndanger_plaintext_api = true\n";
    assert!(Config::parse(plaintext, "f").is_ok());
}
