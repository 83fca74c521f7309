"""What is said of ffmpeg's options that people try, and that are called otherwise here."""

from collections.abc import Sequence

__all__ = ["answer_to"]

_OF_OTHER_STREAMS = {
    "-an", "-sn", "-dn", "-map", "-c:a", "-c:s", "-codec:a", "-codec:s", "-acodec", "-scodec",
    "-b:a", "-ac", "-ar", "-af", "-filter:a", "-q:a", "-aq", "-map_metadata", "-map_chapters",
    "-disposition",
}  # fmt: skip
"""Options for what is copied."""
_OTHERWISE = {
    "-vf": "--vf", "-filter:v": "--vf", "-crf": "--crf", "-preset": "--preset", "-vcodec": "-c:v",
    "-framerate": "-r", "-s": "--size, or -video_size for the input", "-frames:v": "--frames",
    "-vframes": "--frames", "-progress": "--progress json", "-loglevel": "--log-level",
    "-v": "--log-level", "-stats": "--progress bar", "-nostats": "--progress none",
    "-vsync": "to be left out: no frame is dropped or doubled",
    "-fps_mode": "to be left out: no frame is dropped or doubled",
    "-hide_banner": "to be left out: there is no banner",
    "-nostdin": "to be left out: nothing is asked",
    "-threads": "to be left out: all cores are used",
    "-metadata": "to be left out, and written by ffmpeg afterwards: metadata is copied",
    "-b:v": "-e b=", "-g": "-e g=", "-bf": "-e bf=", "-qp": "-e qp=", "-tune": "-e tune=",
    "-x264-params": "-e x264-params=", "-x265-params": "-e x265-params=",
    "-profile:v": "-e profile=", "-profile": "-e profile=", "-level": "-e level=",
    "-level:v": "-e level=", "-b": "-e b=", "-maxrate": "-e maxrate=", "-bufsize": "-e bufsize=",
    "-qmin": "-e qmin=", "-qmax": "-e qmax=", "-cq": "-e cq=", "-keyint_min": "-e keyint_min=",
    "-sc_threshold": "-e sc_threshold=", "-refs": "-e refs=", "-cpu-used": "-e cpu-used=",
    "-c": "-c:v (all other streams are copied)", "-codec": "-c:v (all other streams are copied)",
    "-codec:v": "-c:v", "-c:v:0": "-c:v", "-codec:v:0": "-c:v", "-b:v:0": "-e b=",
    "-filter:v:0": "--vf", "-pix_fmt:v": "-pix_fmt", "-filter": "--vf",
    "-filter_complex": "--vf, for one chain,", "-lavfi": "--vf, for one chain,",
    "-hwaccel": "--hwaccel", "-hwaccel_device": "--device", "-init_hw_device": "--device",
    "-hwaccel_output_format": "to be left out: --hwaccel cuda keeps frames on the GPU",
    "-aspect": "-sar, the ratio of a pixel's sides,",
    "-q:v": "-e qmin=N -e qmax=N",
    "-qscale:v": "-e qmin=N -e qmax=N",
    "-qscale": "-e qmin=N -e qmax=N",
    "-q": "-e qmin=N -e qmax=N",
    "-copyts": "to be left out: frames keep their times, from where the part begins",
}  # fmt: skip
"""Options that have another name here, or need none."""
_NOWHERE = {
    "-shortest": "-t ends picture and sound together",
    "-stream_loop": "ffmpeg repeats an input, into a pipe",
    "-loop": "ffmpeg repeats an input, into a pipe",
    "-pass": "--crf states a quality and -e b= a bit rate, in one pass",
    "-passlogfile": "--crf states a quality and -e b= a bit rate, in one pass",
    "-sseof": "-ss counts from the start",
    "-itsoffset": "ffmpeg moves streams, in the result",
    "-vn": "the picture is what is enlarged",
    "-vtag": "the container's usual tag is written",
    "-tag:v": "the container's usual tag is written",
    "-re": "frames are read as fast as they are enlarged",
    "-safe": "a list names files relative to itself",
    "-attach": "ffmpeg attaches files, to the result",
    "-fs": "-t and --frames end the output",
}  # fmt: skip
"""Options that have nothing like them here, and what there is instead."""


def answer_to(words: Sequence[str]) -> str | None:
    """What to write instead of the first of ``words`` that is such an option; None if none is."""
    for word in words:
        if word in _OF_OTHER_STREAMS:
            return (
                f"{word}: sound, subtitles and the rest are copied as they are; leave them out or "
                "convert them with ffmpeg, from the result"
            )
        if word in _OTHERWISE:
            return f"{word}: is {_OTHERWISE[word]} here"
        if word in _NOWHERE:
            return f"{word}: there is none here: {_NOWHERE[word]}"
    return None
