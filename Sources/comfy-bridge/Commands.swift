import AsyncHTTPClient
import Bridge
import ComfyUI
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import PreviewStamp
import ServiceLifecycle
import Simulator
import UnixSignals
import Wording

let simulatorOptions: [Option] = [
    Option("host", "ADDRESS", default: "127.0.0.1", "address to listen on"),
    Option("port", "PORT", default: "8188", "port to listen on; 0 lets the system choose"),
    Option("compat", "VERSION", default: "0.33.0", "the ComfyUI to be like: 0.33.0, 0.25.0 or 0.3.64"),
    Option("step-delay", "MS", default: "100", "how long a sampling step takes"),
    Option("preview-size", "PIXELS", default: "512", "longer side of a preview"),
    Option("max-upload-size", "MB", default: "100", "largest request body, as ComfyUI's option of that name"),
    Option("preview-bytes", "N", "every preview has exactly so many bytes and says when it was sent (for comfy-bridge-load)"),
    Option("directory", "FOLDER", "where input, output and temp are; a temporary folder if not given"),
    Option("fault-seed", "N", default: "0", "seed of the choices that a probability makes"),
    Option("restart-after", "MS", "how long it is away after the fault 'exit'; if not given, the command ends with status 1"),
    Option("log-level", "LEVEL", default: "info", "trace, debug, info, notice, warning, error or critical"),
    LogFormat.option,
    Option("fault", "FAULT", separator: ",", "what goes wrong, repeat it for several: NAME[=VALUE][~TEXT][*TIMES][@PROBABILITY]\n\n" + faultHelp),
]

/// Behind the options, because it is long.
private let faultHelp = """
      A fault strikes where TEXT occurs, TIMES times at most, with PROBABILITY. TEXT is looked for in METHOD /path if it is about
      answers, else in id, client and graph of the prompt. MOMENT is connect, submit, start, node, the number of a step, success,
      end or view. Faults are also armed and counted at /simulator/faults, see README.

    \(Fault.help.map { "      " + $0 }.joined(separator: "\n"))
    """

let healthOptions: [Option] = [
    Option("url", "URL", default: "http://127.0.0.1:8189/api/v2/health", "what to ask")
]

func serve(_ arguments: [String]) async throws {
    let reader = try OptionReader(BridgeConfiguration.options, arguments: arguments, environment: ProcessInfo.processInfo.environment)
    let configuration = try BridgeConfiguration(reader)
    let logger = try makeLogger("comfy-bridge", reader)
    ComfyBridge.prepareProcess()
    let httpClient = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration.httpClient)
    do {
        let bridge = try ComfyBridge(configuration: configuration, httpClient: httpClient, eventLoopGroup: HTTPClient.defaultEventLoopGroup, logger: logger)
        announce(host: reader.string("host") ?? "127.0.0.1", port: Int(try await bridge.start()))
        try await bridge.run(gracefulShutdownSignals: [.sigterm, .sigint])
    } catch {
        try await httpClient.shutdown()
        throw error
    }
    try await httpClient.shutdown()
}

func simulate(_ arguments: [String]) async throws {
    let reader = try OptionReader(simulatorOptions, arguments: arguments, environment: ProcessInfo.processInfo.environment)
    var configuration = ComfySimulator.Configuration()
    configuration.host = reader.string("host") ?? "127.0.0.1"
    configuration.port = try reader.integer("port", default: 8188, in: 0...65_535)
    configuration.compatibility = try ComfySimulator.Compatibility(rawValue: reader.choice("compat", default: "0.33.0", ["0.33.0", "0.25.0", "0.3.64"])) ?? .newest
    configuration.stepDelay = .milliseconds(try reader.integer("step-delay", default: 100, in: 0...3_600_000))
    configuration.previewSize = try reader.integer("preview-size", default: 512, in: 16...4096)
    if reader.string("preview-bytes") != nil {
        configuration.previewBytes = try reader.integer("preview-bytes", default: 0, in: PreviewStamp.minimumSize...64 << 20)
    }
    configuration.maximumUploadSize = try reader.integer("max-upload-size", default: 100, in: 1...1_048_576) << 20
    configuration.directory = reader.string("directory")
    do {
        configuration.faults = try reader.strings("fault").map { try FaultOrder($0) }
    } catch {
        throw ConfigurationError("\(reader.source("fault")): \(error)")
    }
    configuration.faultSeed = UInt64(try reader.integer("fault-seed", default: 0, in: 0...Int.max))
    if reader.string("restart-after") != nil {
        configuration.restartDelay = .milliseconds(try reader.integer("restart-after", default: 0, in: 0...86_400_000))
    }
    let logger = try makeLogger("comfy-simulator", reader)
    let simulator = ComfySimulator(configuration: configuration, logger: logger)
    let port: Int
    do { port = try await simulator.start() } catch {
        throw NotWell(description: "cannot start on \(configuration.host) port \(configuration.port): \(NetworkWords.of(error)).\(advice(on: error, reader))")
    }
    announce(host: configuration.host, port: port)
    let group = ServiceGroup(configuration: .init(services: [simulator], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
    try await group.run()
}

func checkHealth(_ arguments: [String]) async throws {
    let reader = try OptionReader(healthOptions, arguments: arguments, environment: ProcessInfo.processInfo.environment)
    let url = reader.string("url") ?? "http://127.0.0.1:8189/api/v2/health"
    // Without a name and password that may be in it.
    let shown = url.replacing(/^([^\/]*\/\/)[^\/?#]*@/) { String($0.output.1) }
    let badURL = "\(reader.source("url")) '\(shown)' is no address; write it as in http://127.0.0.1:8189/api/v2/health."
    let response: HTTPClientResponse
    do { response = try await HTTPClient.shared.execute(HTTPClientRequest(url: url), timeout: .seconds(3)) } catch {
        switch error as? HTTPClientError {
        case .invalidURL, .emptyHost, .emptyScheme, .missingSocketPath: throw ConfigurationError(badURL)
        case let error? where error.shortDescription == "Unsupported scheme": throw ConfigurationError(badURL)
        default: throw NotWell(description: "\(shown) cannot be asked: \(NetworkWords.of(error)). Is the bridge running, and is this its address (--url)?")
        }
    }
    guard response.status == .ok else { throw NotWell(description: "\(shown) answers with status \(response.status.code).") }
    print("ok")
}

private struct NotWell: Error, CustomStringConvertible {
    let description: String
}

/// What to do about an address that cannot be had.
private func advice(on error: any Error, _ reader: OptionReader) -> String {
    switch (error as? IOError)?.errnoCode {
    case EADDRINUSE: " Another process has this port; stop it, or choose another with --port, or 0 for any that is free."
    case EACCES: " Ports below 1024 are for the administrator; choose another with --port."
    case EADDRNOTAVAIL: " This machine does not have that address; see --host."
    default: error is SocketAddressError.UnknownHost ? " See --host." : ""
    }
}

/// The line that scripts wait for. It goes out at once, also into a pipe.
private func announce(host: String, port: Int) {
    let authority = host.contains(":") ? "[\(host)]" : host
    FileHandle.standardOutput.write(Data("listening on http://\(authority):\(port)\n".utf8))
}

private func makeLogger(_ label: String, _ reader: OptionReader) throws -> Logger {
    let level = try reader.choice("log-level", default: "info", Logger.Level.allCases.map(\.rawValue))
    let format = LogFormat(rawValue: try reader.choice("log-format", default: "text", LogFormat.allCases.map(\.rawValue))) ?? .text
    var logger = Logger(label: label) { format.makeHandler(label: $0) }
    logger.logLevel = Logger.Level(rawValue: level) ?? .info
    for warning in OptionReader.warnings(about: reader.environment, options: BridgeConfiguration.options + simulatorOptions + healthOptions) {
        logger.warning("\(warning)")
    }
    return logger
}
