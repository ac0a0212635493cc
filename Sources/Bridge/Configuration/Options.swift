import Configuration

/// One setting, as a flag `--name` and as the environment variable `COMFY_BRIDGE_NAME`; the flag wins.
package struct Option: Sendable {
    package let name: String
    /// What the help shows for the value, in capitals.
    package let placeholder: String
    /// As the help shows it; empty for none.
    package let defaultText: String
    package let help: String

    package init(_ name: String, _ placeholder: String, default defaultText: String = "", _ help: String) {
        self.name = name
        self.placeholder = placeholder
        self.defaultText = defaultText
        self.help = help
    }

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

    /// - Parameter arguments: without the program's name and the command.
    package init(_ options: [Option], arguments: [String], environment: [String: String]) throws {
        self.options = options
        var index = arguments.startIndex
        while index < arguments.endIndex {
            let argument = arguments[index]
            let parts = argument.split(separator: "=", maxSplits: 1)
            guard argument.hasPrefix("--"), let flag = parts.first else {
                throw ConfigurationError("'\(argument)' is not understood; every option begins with --. See --help.")
            }
            guard options.contains(where: { $0.name == flag.dropFirst(2) }) else {
                throw ConfigurationError("\(flag) is not an option; see --help.")
            }
            if parts.count == 1 {
                index += 1
                guard index < arguments.endIndex, !arguments[index].hasPrefix("--") else { throw ConfigurationError("\(flag) needs a value; see --help.") }
            }
            index += 1
        }
        reader = ConfigReader(providers: [
            CommandLineArgumentsProvider(arguments: ["comfy-bridge"] + arguments),
            KeyMappingProvider(
                upstream: EnvironmentVariablesProvider(environmentVariables: environment), keyMapper: { $0.prepending(["comfy", "bridge"]) }),
        ])
    }

    package func string(_ name: String) -> String? {
        reader.string(forKey: key(name)).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Values of a repeated flag, or of a comma-separated variable.
    package func strings(_ name: String) -> [String] {
        reader.stringArray(forKey: key(name)) ?? []
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
        let left = options.map { "  --\($0.name) \($0.placeholder)" }
        let width = left.map(\.count).max() ?? 0
        return zip(left, options).map { left, option in
            let padding = String(repeating: " ", count: width - left.count + 2)
            return left + padding + option.help + (option.defaultText.isEmpty ? "" : " [\(option.defaultText)]")
        }.joined(separator: "\n")
    }
}
