//! The rules that every company starts with.

/// A rule as a person would write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRule {
    /// Its name.
    pub name: &'static str,
    /// Its condition.
    pub condition: &'static str,
    /// Its actions, as JSON.
    pub actions: &'static str,
    /// When it is tried; what people add comes before these unless they say otherwise.
    pub order: i32,
}

/// What a panic button does: lights, screens, and sirens if it is critical.
pub const DEFAULT_RULES: [DefaultRule; 3] = [
    DefaultRule {
        name: "Botonera: semáforos",
        condition: "hardware.tipo == 'BOTONERA'",
        actions: r#"[{"accion":"comando","tipos":["SEMAFORO"],"datos":{"accion":"ENCENDER","color":"=tipo.color"}}]"#,
        order: 100,
    },
    DefaultRule {
        name: "Botonera: pantallas",
        condition: "hardware.tipo == 'BOTONERA'",
        actions: r#"[{"accion":"comando","tipos":["PANTALLA"],"datos":{"accion":"MOSTRAR","nombre":"=tipo.nombre","instrucciones":"=tipo.instrucciones","elementos":"=tipo.elementos","lugar":"=sede.nombre","ubicacion":"=alerta.ubicacion","hardware":"=hardware.nombre"}}]"#,
        order: 110,
    },
    DefaultRule {
        name: "Botonera: sirenas si es crítica",
        condition: "hardware.tipo == 'BOTONERA' && alerta.prioridad == 'critica'",
        actions: r#"[{"accion":"comando","tipos":["SIRENA"],"datos":{"accion":"SONAR"}}]"#,
        order: 120,
    },
];
