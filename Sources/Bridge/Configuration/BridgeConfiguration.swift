import API
package import AsyncHTTPClient
import ComfyUI
import FoundationEssentials
import Jobs
import MicroHTTP
import Wording
import Workers
import Workflow

/// All settings of `comfy-bridge serve`, read once.
package struct BridgeConfiguration: Sendable {
    var http: HTTPServer.Configuration
    var workers: [Worker.Configuration]
    var jobs: JobService.Configuration
    /// Where everything that outlives the process is kept; nil keeps it in memory, and bytes in a temporary folder.
    var dataDirectory: String?
    /// How long uploads are kept; nil is for ever.
    var assetRetention: Duration?
    /// Bytes of one upload.
    var uploadLimit: Int
    /// Bytes of any other body.
    var bodyLimit: Int
    var previewDirectory: String?
    var heartbeat: Duration
    var upstreamGrace: Duration
    var publicURL: PublicURL?
    var access: AccessConfiguration
    var trust: ComfyTrust
    var sdkHold: Duration
    /// What a person should know who lets the bridge run like this.
    var warnings: [String]

    package static let options: [Option] = [
        Option("host", "ADDRESS", default: "127.0.0.1", "address to listen on"),
        Option("port", "PORT", default: "8189", "port to listen on; 0 lets the system choose"),
        Option("comfyui", "URL", default: "http://127.0.0.1:8188", separator: ",", "a ComfyUI to run jobs on; repeat it for several"),
        Option(
            "comfyui-header", "HEADER", isSecret: true, separator: "\n",
            "'Name: value' for all ComfyUIs, or 'URL Name: value' for one; repeat it for several. Others see a command line: rather use --comfyui-header-file"),
        Option("comfyui-header-file", "FILE", separator: ",", "headers for ComfyUI, one per line as in --comfyui-header; repeat it for several"),
        Option("comfyui-ca", "FILE", "certificates (PEM) of further authorities to trust for ComfyUIs with https"),
        Option(switch: "comfyui-insecure", "accepts every certificate of a ComfyUI with https"),
        Option("public-url", "URL", "how callers reach the bridge, when a proxy stands before it"),
        Option("token", "TOKEN", isSecret: true, separator: ",", "a token that callers must send; repeat it for several. Others see a command line: rather use --token-file"),
        Option("token-file", "FILE", "tokens that callers must send, one per line"),
        Option("url-lifetime", "SECONDS", default: "3600", "how long the signed URLs work that a bridge with tokens gives out"),
        Option("cors-origin", "ORIGIN", separator: ",", "an origin whose web pages may use the bridge, or * for all; repeat it for several"),
        Option("allowed-host", "NAME", separator: ",", "a host name that the bridge without tokens answers to, beside local ones; repeat it for several"),
        Option(switch: "allow-insecure-bind", "listens on addresses that other machines reach even without a token"),
        Option("allowed-folder", "FOLDER", separator: ",", "a folder outside of ComfyUI's own whose files workflows may name; repeat it for several"),
        Option(switch: "isolate-outputs", "refuses workflows that read outputs by their names, as x.png [output]; by their ids they may"),
        Option("queue-limit", "N", default: "256", "jobs that may wait; more are refused with 429"),
        Option("job-timeout", "SECONDS", default: "0", "time limit of a job from the start of its execution; 0 is none"),
        Option("retries", "N", default: "1", "how often a job that ComfyUI lost is run again"),
        Option("retention", "SECONDS", default: "86400", "how long an ended job can be asked for"),
        Option("retained-jobs", "N", default: "10000", "how many ended jobs can be asked for"),
        Option("retention-size", "MB", default: "10240", "how much of --data-dir jobs may take; the oldest ended ones go first. 0 is no limit"),
        Option("preview-method", "NAME", default: "auto", "previews asked of ComfyUI: auto, latent2rgb, taesd, none, or default for its own setting"),
        Option("preview-history", "N", default: "16", "newest previews that are kept of a job"),
        Option("preview-dir", "FOLDER", "also writes every preview as {job}/{node}-{n}.jpg"),
        Option("data-dir", "FOLDER", default: "~/.local/state/comfy-bridge", "where jobs, uploads and captured results are kept; none keeps jobs in memory"),
        Option("asset-retention", "SECONDS", default: "604800", "how long an upload is kept that names no time itself; 0 is for ever"),
        Option("max-upload-size", "MB", default: "4096", "largest file upload"),
        Option("upstream-grace", "SECONDS", default: "10", "how long ComfyUI may be away before callers that block get 503"),
        Option("upstream-silence", "SECONDS", default: "10", "how long nothing may be heard of a job before ComfyUI is asked about it"),
        Option(
            "upstream-stall", "SECONDS", default: "1800", "how long a running job may be silent, or somebody else's prompt run before it, until ComfyUI counts as stuck; 0 is for ever"),
        Option("sdk-hold", "SECONDS", default: "5", "how long a poll of the official SDK waits for the end of its job; 0 is not at all"),
        Option("heartbeat", "SECONDS", default: "15", "interval of the comments that keep event streams open"),
        Option("max-body-size", "MB", default: "64", "largest request body"),
        Option("body-memory", "MB", default: "256", "memory for all bodies that are arriving; what does not fit gets 503"),
        Option("connection-limit", "N", default: "10000", "connections at the same time"),
        Option("connection-memory", "KB", default: "32", "memory of a connection, of which the head of a request may take half"),
        Option("idle-timeout", "SECONDS", default: "60", "after which an idle connection is closed; 0 is never"),
        Option("drain-timeout", "SECONDS", default: "10", "how long running requests may take at shutdown"),
        Option("threads", "N", default: "one per core", "threads that serve HTTP"),
        Option("log-level", "LEVEL", default: "info", "trace, debug, info, notice, warning, error or critical"),
        LogFormat.option,
    ]

    /// The folder that was named, or the one that the XDG base directory specification has for state.
    private static func dataDirectory(_ reader: OptionReader) -> String? {
        if let named = reader.string("data-dir") { return named == "none" ? nil : named }
        // Relative ones are to be ignored.
        if let state = reader.environment["XDG_STATE_HOME"], state.hasPrefix("/") { return state + "/comfy-bridge" }
        // A service may be started without the variable.
        let home = reader.environment["HOME"] ?? FileManager.default.homeDirectoryForCurrentUser.path
        return home + "/.local/state/comfy-bridge"
    }

    package init(_ reader: OptionReader) throws {
        let defaults = HTTPServer.Configuration()
        bodyLimit = try reader.integer("max-body-size", default: 64, in: 1...4096) << 20
        let bodyMemory = try reader.integer("body-memory", default: max(256, bodyLimit >> 20), in: 1...1_048_576) << 20
        guard bodyMemory >= bodyLimit else {
            throw ConfigurationError("\(reader.source("body-memory")) must be at least \(bodyLimit >> 20), the --max-body-size, or no body of that size would ever be taken.")
        }
        http = HTTPServer.Configuration(
            host: reader.string("host") ?? "127.0.0.1",
            port: UInt16(try reader.integer("port", default: 8189, in: 0...65_535)),
            threads: try reader.integer("threads", default: defaults.threads, in: 1...256),
            connectionLimit: try reader.integer("connection-limit", default: 10_000, in: 1...1_000_000),
            connectionMemory: try reader.integer("connection-memory", default: 32, in: 2...4096) << 10,
            idleTimeout: try reader.seconds("idle-timeout", default: 60),
            bodyMemory: bodyMemory,
            drainTimeout: try reader.seconds("drain-timeout", default: 10))
        jobs = JobService.Configuration()
        jobs.queueLimit = try reader.integer("queue-limit", default: 256, in: 1...1_000_000)
        jobs.retention = try reader.seconds("retention", default: 86_400)
        jobs.retainedJobs = try reader.integer("retained-jobs", default: 10_000, in: 0...10_000_000)
        jobs.previewHistory = try reader.integer("preview-history", default: 16, in: 1...10_000)
        let retainedMegabytes = try reader.integer("retention-size", default: 10_240, in: 0...1_000_000_000)
        jobs.retainedBytes = retainedMegabytes == 0 ? nil : retainedMegabytes << 20
        dataDirectory = Self.dataDirectory(reader)
        let assetRetention = try reader.seconds("asset-retention", default: 604_800)
        self.assetRetention = assetRetention == .zero ? nil : assetRetention
        uploadLimit = try reader.integer("max-upload-size", default: 4096, in: 1...1_048_576) << 20
        previewDirectory = reader.string("preview-dir")
        heartbeat = try reader.seconds("heartbeat", default: 15)
        guard heartbeat > .zero else { throw ConfigurationError("\(reader.source("heartbeat")) must be greater than 0.") }
        sdkHold = try reader.seconds("sdk-hold", default: 5)
        guard sdkHold <= .seconds(25) else { throw ConfigurationError("\(reader.source("sdk-hold")) must be at most 25: the SDK gives up on a request after 30 seconds.") }
        let grace = try reader.seconds("upstream-grace", default: 10)
        upstreamGrace = grace
        publicURL = try reader.string("public-url").map { text in
            guard let url = PublicURL(text) else {
                throw ConfigurationError(
                    "\(reader.source("public-url")) '\(text)' is no address. Write http:// or https://, a host, and the path where a proxy has put the bridge, if any, "
                        + "as in https://comfy.example.com or https://example.com/comfy.")
            }
            return url
        }
        access = try AccessConfiguration(reader, host: http.host, publicURL: publicURL)

        let jobTimeout = try reader.seconds("job-timeout", default: 0)
        let retries = try reader.integer("retries", default: 1, in: 0...100)
        let silence = try reader.seconds("upstream-silence", default: 10)
        let stall = try reader.seconds("upstream-stall", default: 1800)
        let previewMethod = try reader.choice("preview-method", default: "auto", ["auto", "latent2rgb", "taesd", "none", "default"])
        let fileRules = FileRules(
            folders: try reader.strings("allowed-folder").map { folder in
                guard folder.leavesItsFolder, folder.utf8.first != UInt8(ascii: "~") else {
                    throw ConfigurationError("\(reader.source("allowed-folder")) '\(folder)' is no absolute path. Write it as ComfyUI sees it, as in /data/pictures.")
                }
                return folder.hasSuffix("/") ? String(folder.dropLast()) : folder
            },
            isolatesOutputs: try reader.flag("isolate-outputs"))
        let upstream = try UpstreamConfiguration(reader)
        trust = upstream.trust
        warnings = access.warnings + upstream.warnings
        workers = upstream.endpoints.map { endpoint in
            var worker = Worker.Configuration(endpoint: endpoint)
            worker.trust = upstream.trust
            worker.jobTimeout = jobTimeout == .zero ? nil : jobTimeout
            worker.retries = retries
            worker.silence = max(silence, .milliseconds(100))
            worker.stall = stall == .zero ? nil : stall
            worker.grace = grace
            worker.previewMethod = previewMethod
            worker.fileRules = fileRules
            return worker
        }
    }

    /// What an `HTTPClient` for the ComfyUIs needs.
    package var httpClient: HTTPClient.Configuration { ComfyUIClient.httpClientConfiguration(tls: trust.configuration) }
}
