import ArgumentParser
import Foundation

@main
struct Main: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "comfy-bridge-load",
        abstract: "Puts load on a bridge, or on what it is compared with, and checks everything that comes back.",
        discussion: "Prints one JSON object; times are in milliseconds. Exit status 1: something that was received was wrong, stderr says what.",
        subcommands: [Run.self, Direct.self, Watch.self, Idle.self, Ceiling.self, Relaying.self])
}

enum Output {
    /// - Throws: what there was to complain about, behind the report.
    static func write(_ report: some Encodable, _ complaints: Complaints) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys]
        line(String(decoding: try encoder.encode(report), as: UTF8.self))
        try complaints.raise()
    }

    /// On standard output at once, also into a pipe.
    static func line(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }
}
