import Configuration

/// One setting, as a flag `--name` and as the environment variable `COMFY_BRIDGE_NAME`; the flag wins.
package struct Option: Sendable {
    package let name: String
    /// What the help shows for the value, in capitals; empty for a switch, which has none.
    package let placeholder: String
    /// As the help shows it; empty for none.
    package let defaultText: String
    package let help: String
    /// Whether the value must not be shown, in messages neither.
    package let isSecret: Bool

    package init(_ name: String, _ placeholder: String, default defaultText: String = "", isSecret: Bool = false, _ help: String) {
        self.name = name
        self.placeholder = placeholder
        self.defaultText = defaultText
        self.help = help
        self.isSecret = isSecret
    }

    /// A setting that is on when its flag is there, or its variable is `true` or `1`.
    package init(switch name: String, _ help: String) {
        self.init(name, "", help)
    }

    fileprivate var isSwitch: Bool { placeholder.isEmpty }

    package var environmentVariable: String { "COMFY_BRIDGE_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined() }
}

/// What is wrong with a command line or an environment, for a person.
package struct ConfigurationError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Reads options from flags and environment, and refuses what is not known.
package struct OptionReader: Sendable {
    private let options: [Option]
    private let reader: ConfigReader
    /// All variables, for the few that are not the bridge's own.
    package let environment: [String: String]

    /// - Parameter arguments: without the program's name and the command.
    package init(_ options: [Option], arguments: [String], environment: [String: String]) throws {
        self.options = options
        self.environment = environment
        var pairs: [String] = []
        var previous: Option?
        var remaining = arguments[...]
        while let argument = remaining.popFirst() {
            guard argument.hasPrefix("--") else {
                // The rest of a secret with a space in it is a secret, too.
                let shown = previous?.isSecret == true ? "what follows --\(previous!.name)" : "'\(argument)'"
                throw ConfigurationError("\(shown) is not understood; every option begins with --. See --help.")
            }
            let flag = argument.prefix { $0 != "=" }
            guard let option = options.first(where: { $0.name == flag.dropFirst(2) }) else {
                throw ConfigurationError("\(flag) is not an option; see --help.")
            }
            previous = option
            let value: String
            if flag.endIndex < argument.endIndex {
                value = String(argument[flag.endIndex...].dropFirst())
            } else if option.isSwitch {
                value = "true"
            } else {
                guard let next = remaining.popFirst(), !next.hasPrefix("--") else { throw ConfigurationError("\(flag) needs a value; see --help.") }
                value = next
            }
            // A script whose variable is not set must not lose its token, or any other setting, without a word.
            guard !value.isEmpty else { throw ConfigurationError("\(flag) needs a value, and the one given is empty; see --help.") }
            pairs.append("\(flag)=\(value)")
        }
        reader = ConfigReader(providers: [
            CommandLineArgumentsProvider(arguments: ["comfy-bridge"] + pairs),
            KeyMappingProvider(
                upstream: EnvironmentVariablesProvider(environmentVariables: environment), keyMapper: { $0.prepending(["comfy", "bridge"]) }),
        ])
    }

    package func string(_ name: String) -> String? {
        reader.string(forKey: key(name)).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Values of a repeated flag, or of a comma-separated variable; empty ones are none.
    package func strings(_ name: String) -> [String] {
        let isSecret = options.contains { $0.name == name && $0.isSecret }
        return (reader.stringArray(forKey: key(name), isSecret: isSecret) ?? []).filter { !$0.isEmpty }
    }

    /// Whether a switch is on.
    package func flag(_ name: String) throws -> Bool {
        switch string(name)?.lowercased() {
        case nil, "false", "0": return false
        case "true", "1": return true
        case let text?: throw ConfigurationError("--\(name) is '\(text)'; it must be true or false.")
        }
    }

    package func integer(_ name: String, default fallback: Int, in range: ClosedRange<Int>) throws -> Int {
        guard let text = string(name) else { return fallback }
        guard let value = Int(text), range.contains(value) else {
            throw ConfigurationError("--\(name) is '\(text)'; it must be a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return value
    }

    /// Seconds, with or without a fraction.
    package func seconds(_ name: String, default fallback: Double) throws -> Duration {
        guard let text = string(name) else { return .seconds(fallback) }
        guard let value = Double(text), value >= 0, value <= 1e9 else {
            throw ConfigurationError("--\(name) is '\(text)'; it must be a number of seconds.")
        }
        return .seconds(value)
    }

    package func choice(_ name: String, default fallback: String, _ choices: [String]) throws -> String {
        let text = string(name) ?? fallback
        guard choices.contains(text) else { throw ConfigurationError("--\(name) is '\(text)'; it must be one of: \(choices.joined(separator: ", ")).") }
        return text
    }

    private func key(_ name: String) -> ConfigKey { ConfigKey(name.split(separator: "-").map(String.init)) }

    /// The table of options for `--help`.
    package static func help(_ options: [Option]) -> String {
        let left = options.map { $0.isSwitch ? "  --\($0.name)" : "  --\($0.name) \($0.placeholder)" }
        let width = left.map(\.count).max() ?? 0
        return zip(left, options).map { left, option in
            let padding = String(repeating: " ", count: width - left.count + 2)
            return left + padding + option.help + (option.defaultText.isEmpty ? "" : " [\(option.defaultText)]")
        }.joined(separator: "\n")
    }
}
