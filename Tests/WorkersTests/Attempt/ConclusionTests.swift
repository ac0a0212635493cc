import ComfyUI
import Testing

@testable import Jobs
@testable import TestSupport
@testable import Workers

/// What becomes of a job at the end of a run.
@Suite struct ConclusionTests {
    enum Outcome: Sendable, Equatable {
        case again, succeeded, canceled, leave
        case failed(JobError.Code)
    }

    private static let memory = AttemptEnd.ended(.failed(JobError(code: .outOfMemory, message: "m")))
    private static let device = AttemptEnd.ended(.failed(JobError(code: .deviceError, message: "d")))
    private static let node = AttemptEnd.ended(.failed(JobError(code: .nodeExecutionError, message: "n")))

    /// Ends of consecutive runs of one job, the last of which is judged.
    @Test("Ends, retries, another ComfyUI", arguments: [
        ([.ended(.succeeded)], 1, false, .succeeded), ([.ended(.interrupted)], 1, true, .canceled), ([node], 1, true, .failed(.nodeExecutionError)),
        ([.refused(.tooLarge)], 1, true, .failed(.payloadTooLarge)), ([.takenBack], 1, true, .canceled), ([.stopped], 1, true, .leave),
        ([.notDelivered(reason: "r")], 0, false, .again), (Array(repeating: .notDelivered(reason: "r"), count: 4), 0, false, .again),
        (Array(repeating: .notDelivered(reason: "r"), count: 5), 9, true, .failed(.upstreamUnreachable)),
        // Nobody there: as long as it takes.
        (Array(repeating: .notReached, count: 100), 0, false, .again),
        // Lost: as often as there are retries.
        ([.lost(.running)], 1, false, .again), ([.lost(.running)], 0, true, .failed(.upstreamLost)),
        ([.lost(.running), .lost(.running)], 1, true, .failed(.upstreamLost)), ([.lost(.running), .lost(.unreachable), .lost(.running)], 3, false, .again),
        ([.lost(.results)], 1, false, .again), ([.lost(.results)], 0, false, .failed(.upstreamLost)),
        ([.lost(.stalled)], 1, false, .again), ([.lost(.stalled), .lost(.stalled)], 1, false, .failed(.upstreamStuck)),
        // What did not begin to run costs no retry, and does not go on for ever.
        ([.lost(.waiting)], 0, false, .again), (Array(repeating: .lost(.waiting), count: 5), 9, false, .failed(.upstreamLost)),
        ([.lost(.waiting), .lost(.waiting), .lost(.running)], 1, false, .again),
        // ComfyUI goes down with it: poison at the second time, whatever the retries.
        ([.lost(.killed)], 1, false, .again), ([.lost(.killed)], 0, false, .failed(.upstreamLost)), ([.lost(.killed), .lost(.killed)], 1, true, .failed(.poison)),
        ([.lost(.killed), .lost(.killed)], 100, true, .failed(.poison)), ([.lost(.killed), .lost(.running)], 5, true, .again),
        ([.lost(.killed), .lost(.waiting), .lost(.killed)], 5, true, .failed(.poison)),
        ([.stuck(reason: "s", wasRunning: true), .lost(.killed)], 5, true, .failed(.poison)),
        ([.lost(.killed), .stuck(reason: "s", wasRunning: true)], 5, true, .failed(.poison)),
        // Stuck: elsewhere, or not at all.
        ([.stuck(reason: "s", wasRunning: true)], 1, true, .again), ([.stuck(reason: "s", wasRunning: true)], 1, false, .failed(.upstreamStuck)),
        ([.stuck(reason: "s", wasRunning: true)], 0, true, .failed(.upstreamStuck)), ([.stuck(reason: "s", wasRunning: false)], 0, false, .again),
        (Array(repeating: .stuck(reason: "s", wasRunning: false), count: 5), 9, true, .failed(.upstreamStuck)),
        ([.behind(promptID: "p", since: .now)], 0, false, .again), (Array(repeating: .behind(promptID: "p", since: .now), count: 5), 9, true, .failed(.upstreamStuck)),
        // Out of memory: once more, not counted as lost.
        ([memory], 0, false, .again), ([memory, memory], 9, true, .failed(.outOfMemory)), ([memory, .lost(.running)], 1, false, .again),
        ([memory, .ended(.succeeded)], 0, false, .succeeded),
        // The device: on another one.
        ([device], 1, true, .again), ([device], 1, false, .failed(.deviceError)), ([device], 0, true, .failed(.deviceError)),
    ] as [([AttemptEnd], Int, Bool, Outcome)])
    func table(_ ends: [AttemptEnd], _ retries: Int, _ hasOther: Bool, _ expected: Outcome) throws {
        var attempts = Attempts()
        for end in ends { attempts.count(end, on: "http://a") }
        let end = try #require(ends.last)
        let conclusion = Conclusion(of: end, status: .running, attempts: attempts, retries: retries, hasOther: hasOther)
        #expect(Outcome(conclusion) == expected)
        // Whatever it was, a job that is canceled meanwhile is canceled, and one that is over stays so.
        guard end != .stopped else { return }
        let canceled = Conclusion(of: end, status: .canceling, attempts: attempts, retries: retries, hasOther: hasOther)
        #expect(canceled == .end(.canceled, .canceledByCaller))
        let over = Conclusion(of: end, status: .failed, attempts: attempts, retries: retries, hasOther: hasOther)
        #expect(over == .end(.failed))
    }

    @Test func aDeviceErrorOnEachComfyUIIsTheEnd() {
        var attempts = Attempts()
        for endpoint in ["http://a", "http://b"] { attempts.count(Self.device, on: endpoint) }
        #expect(Outcome(Conclusion(of: Self.device, status: .running, attempts: attempts, retries: 1, hasOther: true)) == .failed(.deviceError))
        #expect(Outcome(Conclusion(of: Self.device, status: .running, attempts: attempts, retries: 2, hasOther: true)) == .again)
    }

    @Test func aFileThatIsNotThereIsNoSuccess() {
        let conclusion = Conclusion(of: .ended(.succeeded), status: .running, attempts: Attempts(), retries: 1, hasOther: false, failure: .missingOutput("a.png"))
        #expect(Outcome(conclusion) == .failed(.invalidOutput))
    }

    @Test func theRecordedOnesAreToldAsComfyUITellsThem() throws {
        let traffic = try RecordedTraffic("v0.33/out_of_memory")
        let codes = traffic.prompts.compactMap { prompt -> JobError.Code? in
            guard let history = traffic.history(of: prompt), case .failed(let error) = history.outcome else { return nil }
            return JobError(error).code
        }
        #expect(codes == [.outOfMemory, .outOfMemory, .outOfMemory, .outOfMemory, .deviceError])
    }

    private static let tip =
        "\nThis error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."

    @Test("Kinds of failures are told as ComfyUI tells them", arguments: [
        ("torch.OutOfMemoryError", "Allocation on device", .outOfMemory), ("torch.cuda.OutOfMemoryError", "", .outOfMemory), ("MemoryError", "", .outOfMemory),
        ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 3.4 GiB", .outOfMemory), ("cupy.cuda.memory.OutOfMemoryError", "", .outOfMemory),
        ("torch.AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors might be …", .outOfMemory),
        ("torch.AcceleratorError", "HIP error: Out of Memory", .outOfMemory),
        // By its code, of which only ComfyUI's tip tells; also where a class of a node pack is derived from PyTorch's.
        ("torch.AcceleratorError", "CUDA error: 2" + tip, .outOfMemory), ("packs.Retried", "gave up" + tip, .outOfMemory),
        // Before there was an `AcceleratorError`, and where there is another word for it.
        ("RuntimeError", "CUDA error: out of memory", .outOfMemory), ("RuntimeError", "CUDA out of memory. Tried to allocate 2.25 GiB", .outOfMemory),
        ("RuntimeError", "HIP out of memory. Tried to allocate", .outOfMemory), ("RuntimeError", "XPU out of memory. Tried to allocate", .outOfMemory),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 17.9 GB, …)", .outOfMemory),
        ("RuntimeError", "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", .outOfMemory),
        ("RuntimeError", "Could not allocate tensor with 83886080 bytes. There is not enough GPU video memory available!", .outOfMemory),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", .outOfMemory),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.", .outOfMemory),
        ("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered", .deviceError), ("torch.cuda.CudaError", "", .deviceError),
        ("torch.AcceleratorError", "CUDA error: device-side assert triggered", .deviceError),
        ("RuntimeError", "torch.AcceleratorError", .nodeExecutionError), ("RuntimeError", "The size of tensor a must match", .nodeExecutionError),
        ("ValueError", "MemoryError", .nodeExecutionError), ("ValueError", "the disk cache is out of memory", .nodeExecutionError), ("", "", .nodeExecutionError),
    ] as [(String, String, JobError.Code)])
    func kinds(_ type: String, _ message: String, _ expected: JobError.Code) {
        let error = JobError(ExecutionError(promptID: "p", nodeID: "3", nodeType: "KSampler", message: message, exceptionType: type))
        #expect(error.code == expected)
        #expect(error.message.contains("KSampler (node '3') failed"))
        #expect(error.node == "3")
        #expect(error.classType == "KSampler")
    }

    /// A message may quote what a caller sent.
    @Test(.timeLimit(.minutes(5)), arguments: [("", JobError.Code.nodeExecutionError), ("CUDA error: Out of Memory", .outOfMemory), (tip, .outOfMemory)])
    func marksCostTheirBytes(_ end: String, _ expected: JobError.Code) {
        let message = "cannot read " + endlessLetter + end
        let error = JobError(ExecutionError(promptID: "p", nodeID: "3", nodeType: "KSampler", message: message, exceptionType: "RuntimeError"))
        #expect(error.code == expected)
        let quoted = error.message.utf8.firstRange(of: "RuntimeError: cannot read a\u{315}\u{300}".utf8)
        #expect(error.message.utf8.count < 5000 && quoted != nil)
    }
}

extension ConclusionTests.Outcome {
    init(_ conclusion: Conclusion) {
        switch conclusion {
        case .again: self = .again
        case .leave: self = .leave
        case .end(.succeeded, _): self = .succeeded
        case .end(.canceled, _): self = .canceled
        case .end(_, let error): self = .failed(error?.code ?? .canceled)
        }
    }
}
