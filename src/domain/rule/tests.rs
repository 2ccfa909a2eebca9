//! Rules, tried from outside.

use super::super::name::Prose;
use super::super::registry::Trust;
use super::*;
use jiff::tz::TimeZone;

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn condition(source: &str) -> Condition {
    Condition::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn command(types: &[&str], payload: &str) -> Action {
    Action::Command {
        types: types.iter().map(|code| slug(code)).collect(),
        payload: Payload::parse(payload).unwrap_or_else(|error| panic!("{payload}: {error}")),
    }
}

/// A company with one site in Madrid, and what is said there.
struct World {
    registry: Registry,
    company: Company,
    site: Site,
    device: Device,
    kind: AlertKind,
    content: AlertContent,
    rules: Vec<Arc<Rule>>,
    late: bool,
    at: &'static str,
}

impl World {
    fn new() -> Self {
        Self {
            registry: Registry::default(),
            company: Company {
                row: 1,
                slug: slug("acme"),
                name: label("Acme"),
                active: true,
                broker_trust: false,
            },
            site: Site {
                row: 2,
                company: 1,
                slug: slug("norte"),
                name: label("Sede Norte"),
                time_zone: TimeZone::get("Europe/Madrid").unwrap(),
                active: true,
            },
            device: device(9, "boton-1", "BOTONERA"),
            kind: AlertKind {
                row: 1,
                company: 1,
                code: slug("ROJO"),
                name: label("Asalto"),
                priority: Priority::High,
                colour: label("rojo"),
                description: Prose::parse("Robo con violencia").unwrap(),
                instructions: Prose::parse("Cerrar puertas").unwrap(),
                items: vec![label("radio"), label("botiquín")],
                escalation: None,
                active: true,
            },
            content: AlertContent::default(),
            rules: Vec::new(),
            late: false,
            at: "2026-11-25T09:30:00Z",
        }
    }

    fn saying(data: &str) -> Self {
        let mut world = Self::new();
        world.content.data = Some(data.to_owned());
        world
    }

    /// Puts devices in; they get the rows from 10 up.
    fn with_devices(mut self, devices: &[(&str, &str)]) -> Self {
        for ((name, kind), row) in devices.iter().zip(10..) {
            self.registry.put_device(device(row, name, kind));
        }
        self
    }

    fn rule(mut self, source: &str, actions: Vec<Action>) -> Self {
        let id = i64::try_from(self.rules.len()).unwrap() + 1;
        self.rules.push(Arc::new(Rule {
            id,
            company: 1,
            name: label("regla"),
            order: 50,
            condition: condition(source),
            actions,
            active: true,
            version: id * 10,
        }));
        self
    }

    fn plan(&self) -> Plan {
        let situation = Situation {
            company: &self.company,
            site: &self.site,
            device: &self.device,
            kind: &self.kind,
            content: &self.content,
            late: self.late,
            at: self.at.parse::<jiff::Timestamp>().unwrap().as_microsecond(),
        };
        plan(&self.registry, &self.rules, &situation)
    }

    /// Whether a condition holds, or how it fails.
    fn holds(self, source: &str) -> Result<bool, String> {
        let plan = self.rule(source, vec![Action::FreezeWithdrawals]).plan();
        match plan.errors.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(!plan.freeze.is_empty()),
        }
    }

    /// What a payload becomes, or how it fails.
    fn says(self, payload: &str) -> Result<String, String> {
        let world = self.with_devices(&[("luz", "SEMAFORO")]);
        let plan = world
            .rule("true", vec![command(&["SEMAFORO"], payload)])
            .plan();
        match plan.errors.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(plan.commands[0].payload.to_string()),
        }
    }
}

fn device(row: i64, name: &str, kind: &str) -> Device {
    Device {
        row,
        slug: slug(name),
        company: 1,
        site: 2,
        kind: slug(kind),
        name: label("Aparato"),
        active: true,
        trust: Trust::Signature,
    }
}

fn reference(id: i64) -> RuleRef {
    RuleRef {
        id,
        version: id * 10,
    }
}

#[test]
fn what_is_compiled_is_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Condition>();
    shared::<Payload>();
    shared::<Arc<Rule>>();
}

#[test]
fn a_condition_sees_the_alert_and_everything_around_it() {
    let mut world = World::new();
    world.content = AlertContent {
        description: Some("humo en el baño".to_owned()),
        location: Some(r#"{"piso":2,"lat":-0.95}"#.to_owned()),
        data: Some(
            r#"{"temp":51.5,"zonas":["a","b"],"n":18446744073709551615,"nada":null}"#.to_owned(),
        ),
    };
    let all = [
        "alerta.tipo_alarma == 'ROJO' && alerta.prioridad == 'alta' && !alerta.tardia",
        "alerta.descripcion.contains('baño') && alerta.descripcion.matches('^humo')",
        "alerta.ubicacion.piso == 2 && alerta.ubicacion.lat < 0.0",
        "alerta.datos.temp > 50 && 'b' in alerta.datos.zonas",
        "alerta.datos.n == 18446744073709551615u && alerta.datos.nada == null",
        "has(alerta.datos.temp) && !has(alerta.datos.humo)",
        "alerta.datos['zonas'][1] == 'b' && size(alerta.datos.zonas) == 2",
        "alerta.datos.zonas.exists(z, z == 'a') && alerta.datos.all(k, k != 'x')",
        "size(alerta.datos.zonas.filter(z, z > 'a')) == 1",
        "hardware.hardware == 'boton-1' && hardware.tipo == 'BOTONERA' && hardware.nombre == 'Aparato'",
        "sede.sede == 'norte' && sede.nombre == 'Sede Norte' && sede.zona_horaria == 'Europe/Madrid'",
        "empresa.empresa == 'acme' && empresa.nombre == 'Acme'",
        "tipo.tipo_alarma == 'ROJO' && tipo.nombre == 'Asalto' && tipo.prioridad == 'alta'",
        "tipo.color == 'rojo' && tipo.descripcion.startsWith('Robo') && tipo.instrucciones.endsWith('puertas')",
        "tipo.elementos == ['radio', 'botiquín']",
        "hora == 10 && minuto == 30 && dia == 'miercoles' && dia_semana == 3 && fecha == '2026-11-25'",
    ];
    for source in all {
        let seen = World {
            content: world.content.clone(),
            ..World::new()
        };
        assert_eq!(seen.holds(source), Ok(true), "{source}");
    }
}

#[test]
fn what_an_alert_does_not_say_is_empty() {
    let empty = "alerta.descripcion == '' && alerta.ubicacion == {} && alerta.datos == {}";
    assert_eq!(World::new().holds(empty), Ok(true));
    // Nor does text that is no object become one.
    assert_eq!(World::saying("[1]").holds(empty), Ok(true));
}

#[test]
fn the_time_is_that_of_the_site_in_summer_and_winter() {
    let moments = [
        // The last second of winter time, and the first of summer time, an hour later.
        (
            "2026-03-29T00:59:59Z",
            "hora == 1 && minuto == 59 && dia == 'domingo'",
        ),
        (
            "2026-03-29T01:00:00Z",
            "hora == 3 && minuto == 0 && dia_semana == 7",
        ),
        // Twice half past two, an hour apart.
        (
            "2026-10-25T00:30:00Z",
            "hora == 2 && minuto == 30 && fecha == '2026-10-25'",
        ),
        (
            "2026-10-25T01:30:00Z",
            "hora == 2 && minuto == 30 && fecha == '2026-10-25'",
        ),
        // Another day there than in Greenwich.
        (
            "2026-07-31T22:00:00Z",
            "hora == 0 && fecha == '2026-08-01' && dia == 'sabado'",
        ),
        (
            "2026-12-31T23:00:00Z",
            "fecha == '2027-01-01' && dia == 'viernes' && dia_semana == 5",
        ),
    ];
    for (at, source) in moments {
        let mut world = World::new();
        world.at = at;
        assert_eq!(world.holds(source), Ok(true), "{at}: {source}");
    }
    let mut guayaquil = World::new();
    guayaquil.site.time_zone = TimeZone::get("America/Guayaquil").unwrap();
    guayaquil.at = "2026-11-30T03:15:00Z";
    let source = "hora == 22 && dia == 'domingo' && fecha == '2026-11-29'";
    assert_eq!(guayaquil.holds(source), Ok(true));
    let days = [
        "lunes",
        "martes",
        "miercoles",
        "jueves",
        "viernes",
        "sabado",
        "domingo",
    ];
    let at = ["23", "24", "25", "26", "27", "28", "29"];
    for (index, day) in days.iter().enumerate() {
        let mut world = World::new();
        world.at = format!("2026-11-{}T12:00:00Z", at[index]).leak();
        let source = format!("dia == '{day}' && dia_semana == {}", index + 1);
        assert_eq!(world.holds(&source), Ok(true), "{source}");
    }
}

type Refused<'a> = (&'a str, Option<(usize, usize)>, &'a str);

fn assert_refused(refused: &[Refused<'_>]) {
    for (source, position, why) in refused {
        let error = Condition::parse(source).unwrap_err();
        assert!(error.message.contains(why), "{source}: {}", error.message);
        assert_eq!(error.position, *position, "{source}: {}", error.message);
    }
}

#[test]
fn what_does_not_parse_is_refused_with_its_place() {
    let long = format!("1 == {}", "1".repeat(2_000));
    let brackets = format!("{}true{}", "(".repeat(33), ")".repeat(33));
    let conditionals = format!("{}true", "true ? true : ".repeat(33));
    let wide = vec!["1"; 501].join(" == ");
    let deep = format!("alerta{} == 1", ".a".repeat(101));
    assert_refused(&[
        ("", None, "empty"),
        ("  \n ", None, "empty"),
        (long.as_str(), None, "longer than 2000"),
        (brackets.as_str(), Some((1, 33)), "more than 32 brackets"),
        (
            conditionals.as_str(),
            Some((1, 454)),
            "more than 32 brackets or cond",
        ),
        (wide.as_str(), None, "longer than 2000"),
        (deep.as_str(), Some((1, 1)), "nested deeper"),
        ("alerta.tardia &&", Some((1, 17)), "<EOF>"),
        ("(true", Some((1, 6)), "expected ')'"),
        ("true true", Some((1, 6)), "mismatched input 'true'"),
        ("true &\n true", Some((1, 6)), "'&&'"),
        ("true &&\n  $", Some((2, 3)), "unexpected character"),
        ("'ñandú' == \"x", Some((1, 12)), "unterminated"),
    ]);
}

#[test]
fn what_is_not_known_is_refused_with_its_place() {
    assert_refused(&[
        ("'🚨' == alert", Some((1, 8)), "unknown variable \"alert\""),
        (
            "true &&\n\n  'ñ' == colr",
            Some((3, 10)),
            "unknown variable \"colr\"",
        ),
        (
            "alerta.datos.colr == colr",
            Some((1, 22)),
            "unknown variable \"colr\"",
        ),
        (
            "[1].all(x, x > 0) && x > 1",
            Some((1, 22)),
            "unknown variable \"x\"",
        ),
        (".alerta == 1", None, "unknown variable \".alerta\""),
        ("@result", Some((1, 1)), "unexpected character"),
        (
            "tamano(dia) == 5",
            Some((1, 1)),
            "unknown function \"tamano\"",
        ),
        (
            "true || dia.mayor()",
            Some((1, 13)),
            "unknown function \"mayor\"",
        ),
        (
            "contains(dia, 'l')",
            Some((1, 1)),
            "unknown function \"contains\"",
        ),
        (".matches(dia, '(a')", None, "unknown function \".matches\""),
        (
            "optional.of(1) == 1",
            Some((1, 1)),
            "unknown variable \"optional\"",
        ),
        (
            "timestamp('2026-01-01') == 1",
            Some((1, 1)),
            "unknown function \"timestamp\"",
        ),
        ("dia.contains()", Some((1, 5)), "takes 1 arguments, not 0"),
        (
            "size(dia) > 1 && size(dia, 1) > 1",
            Some((1, 18)),
            "takes 1 arguments, not 2",
        ),
        ("dia.matches(fecha)", Some((1, 5)), "a text in quotes"),
        ("dia.matches('(')", Some((1, 5)), "unclosed group"),
        ("dia.matches('(a{1000}){1000}')", Some((1, 5)), "size limit"),
    ]);
}

#[test]
fn what_would_not_do_is_refused_with_its_place() {
    assert_refused(&[
        ("has(dia)", Some((1, 5)), "has()"),
        ("[1].all(1, true)", Some((1, 9)), "simple name"),
        ("Punto{x: 1} == 1", Some((1, 1)), "no type \"Punto\""),
        ("{'a': 1, ?'b': 2} == 1", Some((1, 10)), "unsupported"),
        (
            "[[1]].exists(x, x.exists(y, y > 0))",
            Some((1, 19)),
            "a loop in a loop",
        ),
        (
            "[1].filter(x, x > 0).exists(y, y > 0)",
            Some((1, 22)),
            "a loop in a loop",
        ),
        (
            "[1].all(x, true) && [1].map(x, [2].map(y, y)) == []",
            Some((1, 36)),
            "a loop in a loop",
        ),
        ("1", None, "gives int"),
        ("alerta.descripcion", None, "gives string"),
        ("tipo.elementos.map(x, x)", None, "gives list"),
    ]);
}

#[test]
fn more_words_than_can_be_parsed_are_refused() {
    let words = format!("[{}] == []", vec!["1"; 600].join(","));
    let error = Condition::parse(&words).unwrap_err();
    assert_eq!(error.position, Some((1, 1001)));
    assert!(
        error.message.contains("more than 1000"),
        "{}",
        error.message
    );
}

#[test]
fn a_condition_is_kept_as_written_but_for_the_blanks_around_it() {
    assert_eq!(
        condition(" hora  > 3 // tarde\n").source(),
        "hora  > 3 // tarde"
    );
    let longest = format!("'{}' == ''", "ñ".repeat(1_992));
    assert!(Condition::parse(&longest).is_ok());
}

#[test]
fn what_can_only_be_told_of_a_real_alert_is_taken() {
    condition("alerta.datos.temp > 50");
    condition("alerta.datos.activo");
    let outcome = World::saying(r#"{"activo":1}"#).holds("alerta.datos.activo");
    assert_eq!(outcome, Err("gives int, not true or false".to_owned()));
}

#[test]
fn a_rule_that_fails_does_not_hold_and_the_next_is_tried() {
    let plan = World::saying(r#"{"temp":"alta"}"#)
        .rule("alerta.datos.temp > 50", vec![Action::FreezeWithdrawals])
        .rule("alerta.datos.humo", vec![Action::FreezeWithdrawals])
        .rule("dia == 'miercoles'", vec![Action::FreezeWithdrawals])
        .rule("dia == 'lunes'", vec![Action::FreezeWithdrawals])
        .plan();
    assert_eq!(plan.rules, [reference(3)]);
    assert_eq!(plan.freeze, [reference(3)]);
    let failed: Vec<_> = plan.errors.iter().map(|(rule, _)| rule.id).collect();
    assert_eq!(failed, [1, 2]);
    assert!(plan.errors[1].1.contains("humo"), "{:?}", plan.errors);
}

#[test]
fn a_rule_that_is_off_is_not_tried() {
    let mut world = World::new().rule("1 / 0 == 1", vec![Action::FreezeWithdrawals]);
    Arc::get_mut(&mut world.rules[0]).unwrap().active = false;
    let plan = world.plan();
    assert!(plan.rules.is_empty() && plan.errors.is_empty());
}

#[test]
fn later_rules_see_the_priority_that_earlier_ones_set() {
    let raise = || vec![Action::SetPriority(Priority::Critical)];
    let guard = Action::Notify {
        group: slug("guardia"),
    };
    let plan = World::new()
        .rule("alerta.prioridad == 'critica'", raise())
        .rule("alerta.prioridad == 'alta'", raise())
        .rule(
            "alerta.prioridad == 'critica' && tipo.prioridad == 'alta'",
            vec![guard],
        )
        .plan();
    assert_eq!(plan.priority, Priority::Critical);
    assert_eq!(plan.rules, [reference(2), reference(3)]);
    assert_eq!(plan.notify, [(slug("guardia"), reference(3))]);
}

#[test]
fn commands_go_to_the_active_devices_of_the_site_in_order() {
    let mut world = World::new().with_devices(&[
        ("luz-1", "SEMAFORO"),
        ("sirena-1", "SIRENA"),
        ("luz-2", "SEMAFORO"),
        ("luz-rota", "SEMAFORO"),
    ]);
    let mut broken = device(13, "luz-rota", "SEMAFORO");
    broken.active = false;
    world.registry.put_device(broken);
    let mut elsewhere = device(20, "luz-sur", "SEMAFORO");
    elsewhere.site = 3;
    world.registry.put_device(elsewhere);
    let light = r#"{"accion":"ENCENDER","color":"=tipo.color"}"#;
    let plan = world
        .rule(
            "true",
            vec![command(&["SEMAFORO", "SIRENA", "SEMAFORO"], light)],
        )
        .rule("true", vec![command(&["SIRENA"], r#"{"accion":"SONAR"}"#)])
        .plan();
    let given: Vec<_> = plan
        .commands
        .iter()
        .map(|c| (c.device.as_str(), &*c.payload, c.rule.id))
        .collect();
    let lit = r#"{"accion":"ENCENDER","color":"rojo"}"#;
    assert_eq!(
        given,
        [
            ("luz-1", lit, 1),
            ("sirena-1", lit, 1),
            ("luz-2", lit, 1),
            ("sirena-1", r#"{"accion":"SONAR"}"#, 2),
        ]
    );
    assert!(plan.errors.is_empty());
}

#[test]
fn a_late_alert_drives_no_hardware_but_tells_people() {
    let mut world = World::new().with_devices(&[("luz", "SEMAFORO")]).rule(
        "alerta.tardia",
        vec![
            command(&["SEMAFORO"], r#"{"x":"=1/0"}"#),
            Action::Notify {
                group: slug("guardia"),
            },
        ],
    );
    world.late = true;
    let plan = world.plan();
    assert!(plan.commands.is_empty() && plan.errors.is_empty());
    assert_eq!(plan.notify.len(), 1);
}

#[test]
fn a_payload_that_fails_leaves_the_rest_of_its_rule() {
    let plan = World::new()
        .with_devices(&[("luz", "SEMAFORO")])
        .rule(
            "true",
            vec![
                command(&["SEMAFORO"], r#"{"x":"=alerta.datos.nada"}"#),
                command(&["SEMAFORO"], "{}"),
                Action::FreezeWithdrawals,
            ],
        )
        .plan();
    assert_eq!(plan.commands.len(), 1);
    assert_eq!(plan.rules, [reference(1)]);
    assert_eq!(plan.freeze, [reference(1)]);
    assert_eq!(plan.errors.len(), 1);
    assert!(plan.errors[0].1.starts_with("x: "), "{:?}", plan.errors);
}

#[test]
fn commands_are_bounded() {
    let names: Vec<_> = (0..600).map(|n| format!("luz-{n}")).collect();
    let devices: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "SEMAFORO"))
        .collect();
    let lights = || command(&["SEMAFORO"], "{}");
    let plan = World::new()
        .with_devices(&devices)
        .rule("true", vec![lights(), lights()])
        .plan();
    assert_eq!(plan.commands.len(), MAX_COMMANDS);
    assert_eq!(plan.errors.len(), 1);
}

#[test]
fn a_payload_keeps_its_order_and_its_plain_values() {
    let says = World::saying(r#"{"b":{"y":[1,2.5],"x":null}}"#).says(
        r#" {"z": 1.50, "color":"=tipo.color", "a":["=hora + 1", "==x", "=  alerta.datos.b ", {"k":"\u00f1="}],
            "n": null, "ok": "=dia in ['lunes']"} "#,
    );
    assert_eq!(
        says.unwrap(),
        r#"{"z":1.50,"color":"rojo","a":[11,"=x",{"x":null,"y":[1,2.5]},{"k":"\u00f1="}],"n":null,"ok":false}"#
    );
}

#[test]
fn refused_payloads() {
    let expression = |text: &str| serde_json::json!({ "a": { "b": text } }).to_string();
    let nested =
        |levels: usize| format!("{}{}", "{\"a\":".repeat(levels), "1") + &"}".repeat(levels);
    assert!(Payload::parse(&nested(8)).is_ok());
    let refused = [
        ("[]".to_owned(), None, "not a JSON object"),
        ("{".to_owned(), None, "not JSON"),
        ("{} x".to_owned(), None, "not JSON"),
        (r#"{"a":1,"a":2}"#.to_owned(), None, "twice"),
        (r#"{"regla":1}"#.to_owned(), None, "\"regla\""),
        (
            r#"{"x":1,"alert\u0061_id":1}"#.to_owned(),
            None,
            "\"alerta_id\"",
        ),
        (nested(9), None, "nested deeper than 8"),
        (
            format!("{{\"a\":\"{}\"}}", "x".repeat(8_192)),
            None,
            "longer than 8192",
        ),
        (expression("="), None, "a: b: empty"),
        (expression("=1 +"), Some((1, 4)), "a: b: "),
        (expression("=hora + colr"), Some((1, 8)), "unknown variable"),
    ];
    for (json, position, why) in refused {
        let error = Payload::parse(&json).unwrap_err();
        assert!(error.message.contains(why), "{json}: {}", error.message);
        assert_eq!(error.position, position, "{json}: {}", error.message);
    }
    for key in [
        "alerta_id",
        "tipo_alarma",
        "prioridad",
        "regla",
        "timestamp",
    ] {
        assert!(Payload::parse(&format!("{{\"{key}\":1}}")).is_err());
    }
    // Only what Atalaya writes itself, on the level where it writes it.
    assert!(Payload::parse(r#"{"x":{"regla":1}}"#).is_ok());
}

#[test]
fn patterns_are_few() {
    let some = |n| vec!["dia.matches('a')"; n].join(" || ");
    assert!(Condition::parse(&some(10)).is_ok());
    let error = Condition::parse(&some(11)).unwrap_err();
    assert_eq!(error.position, Some((1, 205)));
    let spread =
        |n| serde_json::json!({ "a": [format!("={}", some(n))], "b": format!("={}", some(5)) });
    assert!(Payload::parse(&spread(5).to_string()).is_ok());
    assert!(Payload::parse(&spread(6).to_string()).is_err());
}

#[test]
fn an_evaluated_payload_is_bounded() {
    let data = format!("{{\"t\":\"{}\"}}", "x".repeat(9_000));
    let once = World::saying(&data).says(r#"{"a":"=alerta.datos.t"}"#);
    assert!(once.is_ok_and(|text| text.len() > 9_000));
    let twice = World::saying(&data).says(r#"{"a":"=alerta.datos.t + alerta.datos.t"}"#);
    assert!(twice.unwrap_err().contains("longer than 16384"));
    let number = World::new().says(r#"{"a":"=0.0 / 0.0", "b":"=b'ab'", "c":"=type(1)"}"#);
    assert_eq!(number.unwrap(), r#"{"a":null,"b":"YWI=","c":"int"}"#);
}

/// 64 KiB of numbers.
fn many_numbers() -> String {
    format!("{{\"l\":[{}],\"m\":[1,2]}}", vec!["1"; 32_000].join(","))
}

#[test]
fn one_loop_over_all_that_a_message_holds_is_within_the_budget() {
    let holds = |source: &str| World::saying(&many_numbers()).holds(source);
    assert_eq!(holds("alerta.datos.l.exists(x, x == 5)"), Ok(false));
    assert_eq!(
        holds("size(alerta.datos.l.filter(x, x > 0)) == 32000"),
        Ok(true)
    );
    // What is looked at pays, and not what stands beside it.
    let beside =
        "alerta.datos.m.all(x, x < 3 && alerta.prioridad == 'alta' && size(alerta.datos.m) == 2)";
    assert_eq!(holds(beside), Ok(true));
}

#[test]
fn work_without_end_is_an_error() {
    let text = format!("{{\"l\":\"{}\"}}", "ñ".repeat(32_000));
    let cases = [
        (
            many_numbers(),
            "alerta.datos.l.all(x, x in alerta.datos.l)".to_owned(),
        ),
        (
            many_numbers(),
            "alerta.datos.l.exists(x, alerta.datos.l == [x] || false)".to_owned(),
        ),
        (
            many_numbers(),
            "true || alerta.datos.l.all(x, alerta == {})".to_owned(),
        ),
        (
            many_numbers(),
            vec!["alerta.datos.l"; 60].join(" + ") + " == []",
        ),
        (
            many_numbers(),
            format!("[alerta.datos.l].all(x, {} == [])", ["x"; 60].join(" + ")),
        ),
        (
            many_numbers(),
            format!("alerta.datos.l.map(x, [{}]) == []", ["x"; 200].join(",")),
        ),
        (text, "alerta.datos.l.matches('(?i)Ñ+x')".to_owned()),
    ];
    for (data, source) in cases {
        let outcome = World::saying(&data).holds(&source);
        // Where the dear part is not evaluated, it costs nothing.
        if source.starts_with("true ||") {
            assert_eq!(outcome, Ok(true));
        } else {
            assert!(outcome.unwrap_err().contains("too much work"), "{source}");
        }
    }
    // A later part that succeeds hides nothing.
    let hidden = "alerta.datos.l.all(x, x in alerta.datos.l) || true";
    assert!(World::saying(&many_numbers()).holds(hidden).is_err());
}

/// What nests as deep as the limits allow is parsed, evaluated and dropped on a quarter of the
/// stack that a thread has.
#[test]
fn nesting_does_not_exhaust_the_stack() {
    let sources = vec![
        format!("{}true{}", "(".repeat(32), ")".repeat(32)),
        format!("{}true{} == []", "[".repeat(32), "]".repeat(32)),
        format!("{}true", "true ? ".repeat(16) + &"true : ".repeat(16)),
        format!("{}true", "true ? true : ".repeat(32)),
        format!("{}true", "!-".repeat(499)),
        format!("alerta{}", ".a".repeat(499)),
        format!("dia{} == 1", ".f()".repeat(249)),
        format!("{}1", "1 + ".repeat(60)),
        format!("{}1", "1 + ".repeat(490)),
        format!("{}true", "true && ".repeat(240)),
        format!("{}1{}", "size([".repeat(16), "])".repeat(16)),
        format!("{}x{}", "[1].map(x, ".repeat(30), ")".repeat(30)),
        format!("[1]{} == []", ".map(x, x)".repeat(120)),
        format!("{}", "(".repeat(990)),
        format!("{}", "[{".repeat(495)),
    ];
    let deep = format!("{{\"l\":{}{}}}", "[".repeat(120), "]".repeat(120));
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let work = move || {
        for source in &sources {
            if let Ok(parsed) = Condition::parse(source) {
                drop(World::new().holds(parsed.source()));
            }
            let payload = serde_json::json!({ "a": format!("={source}") }).to_string();
            if Payload::parse(&payload).is_ok() {
                drop(World::new().says(&payload));
            }
        }
        let same = "alerta.datos.l == alerta.datos.l && alerta.datos.l + alerta.datos.l != [1]";
        assert_eq!(World::saying(&deep).holds(same), Ok(true));
        let shown = World::saying(&deep)
            .holds("alerta.datos.l < 1")
            .unwrap_err();
        assert!(shown.chars().count() <= 301, "{shown}");
    };
    small.spawn(work).unwrap().join().unwrap();
}

/// Texts of all kinds, the same ones each time.
struct Generator(u64);

impl Generator {
    const ATOMS: [&str; 34] = [
        "1",
        "-1",
        "2u",
        "1.5",
        "-0.0",
        "9223372036854775807",
        "-9223372036854775808",
        "true",
        "null",
        "''",
        "'ñ🚨'",
        "b'\\xff'",
        "r'\\d'",
        "alerta",
        "alerta.datos",
        "alerta.datos.l",
        "alerta.datos.n",
        "alerta.datos.s",
        "alerta.datos.nada",
        "alerta.datos['u']",
        "tipo.elementos",
        "hora",
        "dia",
        "x",
        "y",
        "int",
        "[]",
        "{}",
        "`a`",
        ".x",
        "optional.none()",
        "@result",
        "T{a: 1}",
        "18446744073709551615u",
    ];
    const OPERATORS: [&str; 14] = [
        "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", " in ",
    ];
    const FUNCTIONS: [&str; 12] = [
        "size", "int", "uint", "double", "string", "bool", "bytes", "type", "dyn", "has", "f", "!",
    ];
    const METHODS: [&str; 10] = [
        "map(x, ",
        "filter(x, ",
        "all(x, ",
        "exists(x, ",
        "exists_one(x, ",
        "map(x, x, ",
        "contains(",
        "matches('a' + ",
        "startsWith(",
        "f(",
    ];
    const JUNK: [&str; 24] = [
        "(", ")", "[", "]", "{", "}", ".", "?", ":", ",", "\"", "'", "`", "\\", "&", "|", "\n",
        "//", "ñ", "🚨", "'''", "\\u", "0x", "\0",
    ];

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }

    fn pick(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.below(texts.len())]
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&Self::ATOMS).to_owned();
        }
        let mut part = || self.expression(depth - 1);
        let (a, b, c) = (part(), part(), part());
        match self.below(9) {
            0 => a,
            1 | 2 => format!("({a} {} {b})", self.pick(&Self::OPERATORS)),
            3 => format!("{}({a})", self.pick(&Self::FUNCTIONS)),
            4 => format!("({a}).{}{b})", self.pick(&Self::METHODS)),
            5 => format!("({a} ? {b} : {c})"),
            6 => format!("[{a}, {b}]"),
            7 => format!("{{{a}: {b}}}"),
            _ => format!("({a})[{b}]"),
        }
    }

    fn mutated(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(3) {
            let at = self.below(chars.len() + 1);
            match self.below(3) {
                0 => chars.truncate(at),
                1 if at < chars.len() => drop(chars.remove(at)),
                _ => drop(chars.splice(at..at, self.pick(&Self::JUNK).chars())),
            }
        }
        chars.into_iter().collect()
    }
}

/// Whatever is typed is a value or an error, and never a defect. (Some millions were tried once;
/// these are there to notice a library that has changed.)
#[test]
fn anything_typed_is_a_value_or_an_error() {
    let data =
        r#"{"l":[1,"a",null,{"a":[]}],"n":-9223372036854775808,"s":"ñ","u":18446744073709551615}"#;
    let mut generator = Generator(0x5eed);
    let mut taken = 0;
    for round in 0..4_000 {
        let mut source = generator.expression(1 + round % 3);
        if round % 2 == 0 {
            source = generator.mutated(&source);
        }
        let tried = World::saying(data);
        let outcome = match Condition::parse(&format!("({source}) == 1")) {
            Ok(parsed) => {
                taken += 1;
                tried.holds(parsed.source()).err()
            }
            Err(error) => {
                if let Some((line, column)) = error.position {
                    assert!(line > 0 && column > 0, "{source}");
                }
                Some(error.message)
            }
        };
        let defect = outcome.filter(|error| error.contains("defect"));
        assert_eq!(defect, None, "{source}");
    }
    assert!(
        taken > 400,
        "only {taken} compile: the generator tries too little"
    );
}

#[test]
fn a_misspelt_field_is_refused_where_it_stands() {
    let error = Condition::parse("hora > 3 && alerta.prioridat == 'alta'").unwrap_err();
    assert_eq!(error.position, Some((1, 13)));
    assert!(error.message.contains("prioridat"), "{}", error.message);
    // Every field that there is can be written, and what a device says is not ours to know.
    for (variable, fields) in super::variables::FIELDS {
        for field in fields {
            let source = format!("{variable}.{field} != null");
            assert!(Condition::parse(&source).is_ok(), "{source}");
            let outcome = World::new().holds(&source);
            assert!(
                !outcome.is_err_and(|error| error.contains("No such key")),
                "{source}"
            );
        }
    }
    assert!(Condition::parse("alerta.datos.puerta == 2").is_ok());
}
