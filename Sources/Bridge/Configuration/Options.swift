import ComfyUI
import FoundationEssentials
import Wording

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
    /// What parts the values of the variable, where there may be several; the flag is then repeated. Nil for one value.
    package let separator: Character?

    package init(
        _ name: String, _ placeholder: String, default defaultText: String = "", isSecret: Bool = false, separator: Character? = nil, _ help: String
    ) {
        self.name = name
        self.placeholder = placeholder
        self.defaultText = defaultText
        self.help = help
        self.isSecret = isSecret
        self.separator = separator
    }

    /// A setting that is on when its flag is there, or its variable is `true` or `1`.
    package init(switch name: String, _ help: String) {
        self.init(name, "", help)
    }

    fileprivate var isSwitch: Bool { placeholder.isEmpty }

    package var environmentVariable: String { Self.prefix + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined() }

    fileprivate static let prefix = "COMFY_BRIDGE_"
}

/// What is wrong with a command line or an environment, for a person.
package struct ConfigurationError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Reads options from flags and environment, and refuses what is not known.
package struct OptionReader: Sendable {
    private let options: [Option]
    private let flags: [String: [String]]
    /// All variables, for the few that are not the bridge's own.
    package let environment: [String: String]

    /// - Parameter arguments: without the program's name and the command.
    package init(_ options: [Option], arguments: [String], environment: [String: String]) throws {
        self.options = options
        self.environment = environment
        var flags: [String: [String]] = [:]
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
            flags[option.name, default: []].append(value)
            // Which one counts would be a guess.
            guard option.separator != nil || flags[option.name]!.count == 1 else {
                throw ConfigurationError("\(flag) is given more than once, and takes one value; leave one of them.")
            }
        }
        self.flags = flags
    }

    /// The setting as a person gave it, for messages: its flag, or its variable.
    package func source(_ name: String) -> String {
        flags[name] == nil && !values(name).isEmpty ? option(name).environmentVariable : "--\(name)"
    }

    package func string(_ name: String) -> String? { values(name).first }

    /// Values of a repeated flag, or of its variable; empty ones are none.
    package func strings(_ name: String) -> [String] { values(name) }

    private func values(_ name: String) -> [String] {
        if let given = flags[name] { return given }
        let option = option(name)
        guard let text = environment[option.environmentVariable], !text.isEmpty, !Self.isServiceLink(option.environmentVariable, text) else { return [] }
        guard let separator = option.separator else { return [text] }
        return text.split(separator: separator).map(\.trimmed).filter { !$0.isEmpty }
    }

    private func option(_ name: String) -> Option {
        guard let option = options.first(where: { $0.name == name }) else { preconditionFailure("there is no option --\(name)") }
        return option
    }

    /// The lines of a file that a setting names, with their numbers; blank ones and those that begin with `#` do not count.
    ///
    /// - Parameter source: the setting, for messages.
    package func lines(ofFile path: String, _ source: String) throws -> [(number: Int, text: String)] {
        let text: String
        do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw ConfigurationError("\(source) cannot be read: \(NetworkWords.of(error)).")
        }
        return text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated().map { ($0 + 1, $1.trimmed) }
            .filter { !$0.1.isEmpty && !$0.1.hasPrefix("#") }
    }

    /// Whether a switch is on.
    package func flag(_ name: String) throws -> Bool {
        switch string(name)?.lowercased() {
        case nil, "false", "0": return false
        case "true", "1": return true
        case let text?: throw ConfigurationError("\(source(name)) is '\(text)'; it must be true or false.")
        }
    }

    package func integer(_ name: String, default fallback: Int, in range: ClosedRange<Int>) throws -> Int {
        guard let text = string(name) else { return fallback }
        guard let value = Int(text), range.contains(value) else {
            throw ConfigurationError("\(source(name)) is '\(text)'; it must be a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return value
    }

    /// Seconds, with or without a fraction.
    package func seconds(_ name: String, default fallback: Double) throws -> Duration {
        guard let text = string(name) else { return .seconds(fallback) }
        guard let value = Double(text), value >= 0, value <= 1e9 else {
            throw ConfigurationError("\(source(name)) is '\(text)'; it must be a number of seconds.")
        }
        return .seconds(value)
    }

    package func choice(_ name: String, default fallback: String, _ choices: [String]) throws -> String {
        let text = string(name) ?? fallback
        guard choices.contains(text) else { throw ConfigurationError("\(source(name)) is '\(text)'; it must be one of: \(choices.joined(separator: ", ")).") }
        return text
    }

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

// MARK: Variables that are no settings

extension OptionReader {
    /// A sentence for each variable that looks like one of the bridge's and is none: most likely a slip of the pen. Values are not shown.
    ///
    /// - Parameter options: of all commands: an image sets variables for one that the others inherit.
    package static func warnings(about environment: [String: String], options: [Option]) -> [String] {
        let known = Set(options.map(\.environmentVariable)).union(projectVariables)
        let unknown = environment.filter { name, value in name.hasPrefix(Option.prefix) && !known.contains(name) && !isServiceLink(name, value) }
        return unknown.keys.sorted().map { name in
            let nearest = options.map { (option: $0, distance: distance(name, $0.environmentVariable)) }.min { $0.distance < $1.distance }
            let advice = nearest.flatMap { $0.distance <= 4 ? "; is \($0.option.environmentVariable) meant?" : nil } ?? "; see --help for those that there are."
            return "\(name) is set, and no setting of comfy-bridge has that name: it is ignored\(advice)"
        }
    }

    /// What scripts and tests of this project go by, which start bridges.
    private static let projectVariables = Set(["BINARY", "CONFIGURATION", "PUBLISH", "TEST_CONTAINER", "CHAOS_SEED", "FAULT_TABLE"].map { Option.prefix + $0 })

    /// Kubernetes tells every container of a namespace where its services are, as Docker's links did: of one called `comfy-bridge`
    /// `COMFY_BRIDGE_PORT=tcp://10.0.0.1:8189` and more.
    static func isServiceLink(_ name: String, _ value: String) -> Bool {
        name.hasSuffix("_SERVICE_HOST") || name.hasSuffix("_SERVICE_PORT") || name.contains("_SERVICE_PORT_")
            || name.hasSuffix("_PORT") && value.firstMatch(of: /^(?:tcp|udp|sctp):\/\//) != nil
            || name.firstMatch(of: /_PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/) != nil
    }

    /// Characters to exchange, add or leave out (Levenshtein).
    private static func distance(_ a: String, _ b: String) -> Int {
        // Longer names are no slip of the pen.
        let (a, b) = (Array(a.utf8.prefix(100)), Array(b.utf8.prefix(100)))
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                let substituted = diagonal + (x == y ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(substituted, diagonal + 1, row[j] + 1)
            }
        }
        return row[b.count]
    }
}
