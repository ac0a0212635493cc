extension Worker {
    /// Takes up a job that this ComfyUI was given before the bridge was restarted.
    func adopt(_ job: Job) {
        _ = job.countLostRun()
        service.queue.restore(job)
    }
}
