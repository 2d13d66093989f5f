"""A project's folder: read, checked, frozen, locked and proved."""

from orchestrator.project.loading import load
from orchestrator.project.problems import LockDiffers, Problem, ProjectError
from orchestrator.project.project import Project

__all__ = ["LockDiffers", "Problem", "Project", "ProjectError", "load"]
