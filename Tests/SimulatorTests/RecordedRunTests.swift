import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// The order of messages on each socket, held against recordings of real servers. Serialized like `RecordedAnswerTests`.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct RecordedRunTests {
    @Test(
        arguments: [
            "success_previews_metadata", "success_previews_legacy", "cached_full", "cached_partial", "node_exception", "interrupt_running",
            "interrupt_uninterruptible", "save_image_websocket", "save_image_websocket_legacy", "subgraph_expansion",
            "execution_blocker", "no_client_id", "preview_image_temp", "ws_first_message", "worker_thread_dead",
        ], ["", "v0.25/", "v0.33/"])
    func messagesComeAsRecorded(_ scenario: String, _ version: String) async throws {
        let replay = try await replay(version + scenario)
        for (socket, lines) in replay.recorded.sockets {
            expectSame(replay.simulated.sockets[socket, default: []], lines, "socket \(socket)")
        }
    }

    /// Prompts that are submitted while others run: when their `status` comes between the others' messages is chance.
    @Test(arguments: ["two_clients", "two_prompts_one_client", "duplicate_prompt_id", "delete_pending"], ["", "v0.25/", "v0.33/"])
    func messagesOfOverlappingPromptsComeAsRecorded(_ scenario: String, _ version: String) async throws {
        let replay = try await replay(version + scenario)
        let isStatus = { (line: String) in line.hasPrefix(#"{"type":"status""#) }
        for (socket, lines) in replay.recorded.sockets {
            let simulated = replay.simulated.sockets[socket, default: []]
            expectSame(simulated.filter { !isStatus($0) }, lines.filter { !isStatus($0) }, "socket \(socket)")
            #expect(simulated.filter(isStatus).last == lines.filter(isStatus).last)
        }
    }

    /// The everyday job with the stock sampler, its previews on, off and as configured.
    @Test(arguments: [
        "v0.25/txt2img_ksampler", "txt2img_ksampler", "v0.25/preview_method_per_prompt", "v0.25/intermediate_output", "v0.33/txt2img_ksampler",
        "v0.33/preview_method_per_prompt", "v0.33/intermediate_output",
    ])
    func samplersSendAsRecorded(_ scenario: String) async throws {
        let replay = try await replay(scenario) { $0.checkpoints = ["random-sd15.safetensors"] }
        for (socket, lines) in replay.recorded.sockets {
            expectSame(replay.simulated.sockets[socket, default: []], lines, "socket \(socket)")
        }
    }

    @Test(arguments: [
        ("v0.25/cache_across_prompts", ComfySimulator.CachePolicy.latestGraph), ("v0.25/cache_across_prompts_bigmem", .everything),
        ("v0.25/cache_ram_pressure", .nothing), ("v0.33/cache_across_prompts", .latestGraph), ("v0.33/cache_across_prompts_bigmem", .everything),
        ("v0.33/cache_ram_pressure", .nothing),
    ])
    func cachesKeepWhatTheRecordedServerKept(_ scenario: String, _ policy: ComfySimulator.CachePolicy) async throws {
        let replay = try await replay(scenario) { $0.cachePolicy = policy }
        for (socket, lines) in replay.recorded.sockets {
            expectSame(replay.simulated.sockets[socket, default: []], lines, "socket \(socket)")
        }
    }

    private func replay(_ name: String, _ configure: (inout ComfySimulator.Configuration) -> Void = { _ in }) async throws -> Replay {
        let recording = try Recording(name)
        return try await withSimulator {
            $0.compatibility = .of(name)
            configure(&$0)
        } _: { server in
            try await Replay(recording, against: server)
        }
    }
}
