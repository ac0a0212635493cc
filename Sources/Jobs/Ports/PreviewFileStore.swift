/// Previews as files, for people who like them on disk.
package protocol PreviewFileStore: Sendable {
    func write(_ preview: Preview, job: JobID) async
    /// Removes what was written for a job.
    func remove(of job: JobID) async
}
