from kdltr_core.recognizers.output import RecognizerOutput
from kdltr_core.recognizers.registry import Recognizer, build_student, build_teacher

__all__ = ["Recognizer", "RecognizerOutput", "build_student", "build_teacher"]
