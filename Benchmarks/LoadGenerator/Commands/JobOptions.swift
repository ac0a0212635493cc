import ArgumentParser

/// What `run` and `direct` have in common.
struct JobOptions: ParsableArguments {
    @Option(help: "The server, http only.")
    var url: String

    @Option(help: "Callers at the same time, each with its own kept connection.")
    var callers = 1

    @Option(help: "Jobs in all.")
    var jobs = 100

    @Option(help: "Jobs per second, whatever becomes of them: latency counts from the moment at which a job should have started. Without it a caller starts its next job when the last one is done.")
    var rate: Double?

    @Option(help: "one-step, picture or delay:MS.")
    var kind = JobTemplate.Kind.oneStep

    @Option(help: "A workflow in API format instead; the seeds in it are replaced.")
    var workflow: String?

    func validate() throws {
        guard callers > 0, jobs > 0, rate ?? 1 > 0 else { throw ValidationError("--callers, --jobs and --rate are above 0") }
    }

    var template: JobTemplate { get throws { if let workflow { try JobTemplate(file: workflow) } else { JobTemplate(kind) } } }
}
