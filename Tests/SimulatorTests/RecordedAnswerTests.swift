import Foundation
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Status, content type and JSON of HTTP answers, held against recordings of real servers.
///
/// Serialized, because recorded waits (a prompt that runs for 2.5 s meanwhile) must not be outrun by a busy machine.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct RecordedAnswerTests {
    @Test(arguments: [
        "validation_errors", "v0.25/validation_errors", "upload_and_load", "v0.25/upload_and_load", "misc_http", "v0.25/misc_http",
        "v0.25/jobs_api", "v0.25/prompt_id_and_extra_data", "v0.25/cached_no_client_id", "cached_full", "v0.25/cached_full",
        "node_exception", "v0.25/node_exception", "interrupt_running", "v0.25/interrupt_running", "delete_pending", "v0.25/delete_pending",
        "subgraph_expansion", "v0.25/subgraph_expansion", "no_client_id", "v0.25/no_client_id", "view_variants", "v0.25/view_variants",
        "v0.25/security_headers", "v0.25/intermediate_output", "v0.33/validation_errors", "v0.33/upload_and_load", "v0.33/misc_http", "v0.33/jobs_api",
        "v0.33/prompt_id_and_extra_data", "v0.33/cached_no_client_id", "v0.33/cached_full", "v0.33/node_exception", "v0.33/interrupt_running",
        "v0.33/delete_pending", "v0.33/subgraph_expansion", "v0.33/no_client_id", "v0.33/view_variants", "v0.33/security_headers",
        "v0.33/intermediate_output", "v0.33/jobs_cancel", "v0.33/save_passthrough", "v0.33/view_active_content",
    ])
    func answersAreAsRecorded(_ scenario: String) async throws {
        let recording = try Recording(scenario)
        let folder = try TemporaryFolder()
        try recording.writeViewedFiles(to: folder.path)
        let replay = try await withSimulator {
            $0.compatibility = .of(scenario)
            $0.checkpoints = ["random-sd15.safetensors"]
            $0.directory = folder.path
        } _: { server in
            try await Replay(recording, against: server)
        }
        #expect(!replay.recorded.exchanges.isEmpty)
        for (simulated, recorded) in zip(replay.simulated.exchanges, replay.recorded.exchanges) where !isPeculiar(recorded) {
            expectSame([simulated], [recorded], scenario)
        }
    }

    /// The recorded machine's memory, packages and users, a server without front end, and a test node that makes sound.
    private func isPeculiar(_ exchange: Replay.Exchange) -> Bool {
        exchange.request.contains("/system_stats") || exchange.request.contains("/users") || exchange.request.contains("GET /assets ")
            || exchange.body.contains("received_type(AUDIO)")
    }
}

extension Recording {
    /// Files that the recorded client fetched and that no graph makes.
    fileprivate func writeViewedFiles(to root: String) throws {
        for event in events where event.event == "http_request" && event["method"] == "GET" && event["path"] == "/view" {
            // A preview is made of the file.
            guard let name = event["query"]?["filename"]?.string, event["query"]?["preview"] == nil,
                let answer = events.first(where: { $0.event == "http_response" && $0["id"] == event["id"] }),
                answer["status"] == 200, !name.contains("[")
            else { continue }
            let folder = "\(root)/\(event["query"]?["type"]?.string ?? "output")/\(event["query"]?["subfolder"]?.string ?? "")"
            if !name.hasSuffix(".png") || !answer.recordedBody.starts(with: [0x89, 0x50]) {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try Folders.write(answer.recordedBody, to: folder + "/" + name)
            } else if name == "img_00002_.png" {  // the recorded server had saved one before
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try Folders.write([], to: folder + "/img_00001_.png")
            }
        }
    }
}

/// Removed when it goes out of scope.
struct TemporaryFolder: ~Copyable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "simulator-tests-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
